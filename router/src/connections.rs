//! Open connections of clients: accepted, bounded in number, drained at the end.

use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::tls::{Handshake, Tls};

/// hyper's buffer for heads, and for what a client has not read yet.
const BUFFER: usize = 128 << 10;
/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// After an error that is the machine's, not the connection's (no file descriptor is left, …).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one listener.
pub(crate) struct Connections {
    http: http1::Builder,
    places: Arc<Semaphore>,
    open: Gauge,
    tasks: TaskTracker,
    /// Connections end with the answer that is on them.
    closing: CancellationToken,
    /// Connections end.
    closed: CancellationToken,
}

/// Counts a connection while it is open.
struct Open {
    gauge: Gauge,
    _place: OwnedSemaphorePermit,
}

// === impl Connections ===

impl Connections {
    pub(crate) fn new(config: &Config, open: Gauge) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(BUFFER);
        Self {
            http,
            places: Arc::new(Semaphore::new(config.max_connections)),
            open,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Accepts for as long as it is polled; every connection is served by a task of its own.
    ///
    /// With `tls` every connection begins with a handshake.
    pub(crate) async fn accept<Serve, Answer, Content>(
        &self,
        listener: TcpListener,
        tls: Option<&Tls>,
        serve: Serve,
    ) where
        Serve: Fn(IpAddr, Request<Incoming>) -> Answer + Clone + Send + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data = Bytes> + Send + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.expect("the semaphore should never be closed");
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) if is_of_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let open = Open::new(&self.open, place);
            let closed = self.closed.clone();
            let serve = serve.clone();
            let handshake = tls.map(Tls::handshake);
            // A future is as large as all that it is ever handed on in: in a box it lies once.
            let serving =
                Box::pin(self.serve(stream, handshake, move |request| serve(peer, request), open));
            self.tasks
                .spawn(async move { closed.run_until_cancelled(serving).await });
        }
    }

    fn serve<Serve, Answer, Content>(
        &self,
        stream: TcpStream,
        handshake: Option<Handshake>,
        serve: Serve,
        open: Open,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        Serve: Fn(Request<Incoming>) -> Answer + Send + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data = Bytes> + Send + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let http = self.http.clone();
        let closing = self.closing.clone();
        async move {
            let _open = open;
            // Without it every token would wait for the acknowledgement of the one before.
            if stream.set_nodelay(true).is_err() {
                return;
            }
            let Some(handshake) = handshake else {
                return converse(&http, stream, serve, closing).await;
            };
            let shaken = tokio::select! {
                shaken = timeout(HANDSHAKE_TIME, Box::pin(handshake.accept(stream))) => shaken,
                () = closing.cancelled() => return,
            };
            match shaken {
                Ok(Ok(stream)) => converse(&http, Box::new(stream), serve, closing).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
    }

    /// Closes idle connections at once, and waits for the answers on the others for a time.
    pub(crate) async fn drain(&self, time: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(time, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "the time to drain is over");
        }
    }

    /// Closes what is still open.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Serves what comes over a connection.
async fn converse<Stream, Serve, Answer, Content>(
    http: &http1::Builder,
    stream: Stream,
    serve: Serve,
    closing: CancellationToken,
) where
    Stream: AsyncRead + AsyncWrite + Unpin,
    Serve: Fn(Request<Incoming>) -> Answer,
    Answer: Future<Output = Response<Content>>,
    Content: Body<Data = Bytes> + 'static,
    Content::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(move |request| {
        // hyper keeps its place as long as the connection lives, and a stream does not need it any longer.
        let answer = Box::pin(serve(request));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

/// The peer gave up before it was accepted; the listener is fine.
fn is_of_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

// === impl Open ===

impl Open {
    fn new(gauge: &Gauge, place: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        Self {
            gauge: gauge.clone(),
            _place: place,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
