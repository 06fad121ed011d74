//! A connection to a worker: opened when it is needed, kept alive, and opened again once it was lost.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use super::Lost;
use super::outgoing::Outgoing;
use inferyard_catalog::Endpoint;

const CONNECT_TIME: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What a worker may send on one stream before the client takes it: the back-pressure of a slow
/// client begins here.
const STREAM_WINDOW: u32 = 32 << 10;
/// h2 charges 256 bytes minus its length for each small unread frame, and closes the connection
/// with all its streams once the charge exceeds half of this window. A full stream window of token
/// frames costs about 320 KB, so thousands of stalled clients fit.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The way to one worker.
pub(crate) struct Connection {
    endpoint: Endpoint,
    uri: Uri,
    opened: Mutex<Option<Sender>>,
    /// Whoever opens it, the others wait; and what came of it.
    opening: tokio::sync::Mutex<Option<Lost>>,
    /// How often it was tried.
    tries: AtomicU64,
}

/// An open connection, as far as is known.
#[derive(Clone)]
pub(super) struct Sender {
    inner: SendRequest<Bytes>,
    uri: Uri,
    /// Which try it came of.
    number: u64,
}

// === impl Connection ===

impl Connection {
    /// Nothing is opened yet.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let authority = match &endpoint {
            Endpoint::Tcp(address) => address,
            // HTTP needs some name all the same.
            Endpoint::Unix(_) => "localhost",
        };
        let uri = format!("http://{authority}/inferyard.worker.v1.Worker/Generate").parse();
        Self {
            // The catalog's type promises `host:port`; a host that no URI can hold resolves nowhere.
            uri: uri.unwrap_or_else(|_| Uri::from_static("http://invalid.invalid")),
            endpoint,
            opened: Mutex::new(None),
            opening: tokio::sync::Mutex::new(None),
            tries: AtomicU64::new(0),
        }
    }

    /// The open connection; `None`: there is none yet.
    pub(super) fn sender(&self) -> Option<Sender> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.clone()
    }

    /// Opens it in place of one that broke. Those who ask at the same time share what comes of it.
    pub(super) fn open(
        self: &Arc<Self>,
        broken: Option<&Sender>,
    ) -> impl Future<Output = Result<Sender, Lost>> + Send + use<> {
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
            let inner = connected.map_err(|why| failure.insert(Lost::Unseen(why)).clone())?;
            *failure = None;
            let uri = this.uri.clone();
            let sender = Sender { inner, uri, number };
            let mut opened = this.opened.lock().unwrap_or_else(PoisonError::into_inner);
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
        // Frames that arrive for a stream that was given up are charged for ever while h2 remembers
        // the stream, and answered with a reset once it has forgotten it. So it forgets at once,
        // and may send as many resets as clients leave.
        .max_concurrent_reset_streams(0)
        .max_local_error_reset_streams(None)
        .handshake(stream);
    let (sender, mut connection) = handshake.await.map_err(io::Error::other)?;
    let pings = connection.ping_pong();
    // It ends with the last who holds the sender or a stream of it: the worker, and its answers.
    tokio::spawn(async move {
        let pings = pings.expect("nobody should have taken it yet");
        tokio::select! {
            _ = connection => {}
            () = until_silent(pings) => {}
        }
    });
    Ok(sender)
}

/// Returns when the other side does not answer any longer.
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
    /// Whether a request can be sent.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.inner.poll_ready(cx)
    }

    /// Sends a request. Where that fails, nothing of it has left.
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
