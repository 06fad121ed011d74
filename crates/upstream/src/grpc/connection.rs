//! A connection to a worker: opened on demand, kept alive, and reopened after a failure.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::Uri;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::TransportError;
use super::outgoing::Outgoing;
use inferyard_catalog::Endpoint;

/// Timeout of connecting, so that a request can try another worker.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Interval of HTTP/2 pings, and the timeout of each: detects a connection that broke silently.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Bytes that a worker may send on one stream before the client reads them: back-pressure of a slow client starts
/// here.
const STREAM_WINDOW: u32 = 32 << 10;
/// h2 charges 256 bytes minus its length for each small unread frame, and closes the connection
/// with all its streams once the charge exceeds half of this window. A full stream window of token
/// frames costs about 320 KB, so thousands of stalled clients fit.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The connection to one worker.
pub(crate) struct Connection {
    endpoint: Endpoint,
    uri: Uri,
    opened: Mutex<Option<Sender>>,
    /// Serializes attempts to connect; holds the error of the last one, for callers that waited for it.
    opening: tokio::sync::Mutex<Option<TransportError>>,
    /// Number of attempts so far.
    tries: AtomicU64,
}

/// An open connection, unless it broke since.
#[derive(Clone)]
pub(super) struct Sender {
    inner: SendRequest<Bytes>,
    uri: Uri,
    /// The number of the attempt that opened it.
    number: u64,
}

// === impl Connection ===

impl Connection {
    /// Creates it without connecting.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let authority = match &endpoint {
            Endpoint::Tcp(address) => address,
            // HTTP needs an authority even without a host.
            Endpoint::Unix(_) => "localhost",
        };
        let uri = format!("http://{authority}/inferyard.worker.v1.Worker/Generate").parse();
        Self {
            // The catalog's type guarantees `host:port`; a host that is no valid URI cannot be resolved.
            uri: uri.unwrap_or_else(|_| Uri::from_static("http://invalid.invalid")),
            endpoint,
            opened: Mutex::new(None),
            opening: tokio::sync::Mutex::new(None),
            tries: AtomicU64::new(0),
        }
    }

    /// The open connection; `None`: not opened yet.
    pub(super) fn sender(&self) -> Option<Sender> {
        let opened = self.opened.lock();
        opened.clone()
    }

    /// Opens a connection in place of `broken`. Concurrent callers share one attempt and its result: the count of
    /// attempts is read here, not when the future is polled, so an attempt that starts later and fails counts for
    /// this caller too.
    pub(super) fn open(
        self: &Arc<Self>,
        broken: Option<&Sender>,
    ) -> impl Future<Output = Result<Sender, TransportError>> + Send + use<> {
        let this = Arc::clone(self);
        let seen = this.tries.load(Ordering::Acquire);
        let broken = broken.map_or(0, |sender| sender.number);
        async move {
            let mut failure = this.opening.lock().await;
            if this.tries.load(Ordering::Acquire) > seen
                && let Some(failure) = &*failure
            {
                return Err(failure.clone());
            }
            if let Some(sender) = this.sender().filter(|sender| sender.number > broken) {
                return Ok(sender);
            }
            let number = this.tries.fetch_add(1, Ordering::AcqRel) + 1;
            let connected = match timeout(CONNECT_TIME, connect(&this.endpoint)).await {
                Ok(connected) => connected.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no connection within {CONNECT_TIME:?}")),
            };
            let inner =
                connected.map_err(|why| failure.insert(TransportError::Unseen(why)).clone())?;
            *failure = None;
            let uri = this.uri.clone();
            let sender = Sender { inner, uri, number };
            let mut opened = this.opened.lock();
            Ok(opened.insert(sender).clone())
        }
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<SendRequest<Bytes>> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(&**address).await?;
            stream.set_nodelay(true)?;
            handshake(stream).await
        }
        Endpoint::Unix(path) => handshake(UnixStream::connect(path).await?).await,
    }
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // h2 keeps charging frames for a locally reset stream while it remembers the stream, and answers them with a
        // reset after forgetting it. Streams are therefore forgotten at once, and resets are unlimited, since every
        // client that disconnects causes one.
        .max_concurrent_reset_streams(0)
        .max_local_error_reset_streams(None)
        .handshake(stream);
    let (sender, mut connection) = handshake.await.map_err(io::Error::other)?;
    let pings = connection.ping_pong();
    // The task ends when the last sender and stream of the connection are dropped.
    tokio::spawn(async move {
        let pings = pings.expect("nobody should have taken it yet");
        tokio::select! {
            _ = connection => {}
            () = until_silent(pings) => {}
        }
    });
    Ok(sender)
}

/// Returns when the peer stops answering pings.
async fn until_silent(mut pings: PingPong) {
    loop {
        sleep(KEEP_ALIVE).await;
        let pong = pin!(pings.ping(Ping::opaque()));
        if !matches!(timeout(KEEP_ALIVE, pong).await, Ok(Ok(_))) {
            return;
        }
    }
}

// === impl Sender ===

impl Sender {
    /// Ready when a request can be sent.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.inner.poll_ready(cx)
    }

    /// Sends a request. After an error, no part of it was sent.
    pub(super) fn send(&mut self, outgoing: &Outgoing) -> Result<ResponseFuture, h2::Error> {
        let head = outgoing.head(self.uri.clone());
        let (response, mut stream) = self.inner.send_request(head, false)?;
        let (first, long) = outgoing.data();
        stream.send_data(first, long.is_none())?;
        if let Some(long) = long {
            stream.send_data(long, true)?;
        }
        Ok(response)
    }
}
