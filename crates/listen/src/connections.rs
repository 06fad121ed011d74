//! HTTP/1.1 connections of clients: accepted, bounded in number, share and time, drained at the end.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::conversation::Conversation;
use crate::Socket;
use crate::counts::Counts;
use crate::network::Network;
use crate::paced::{Paced, Progress};
use crate::share::{Share, Shares};
use crate::throttle::Throttle;

mod conversation;
mod socket;

/// hyper's buffer for request heads, and for bytes that a client has not read yet, in bytes.
const BUFFER: usize = 128 << 10;
/// Pause after an accept error of the machine rather than of one connection (no file descriptor is left, …).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Open connections; further ones wait in the listener's backlog.
    pub connections: usize,
    /// Open connections of one client, which is an IPv4 address or an IPv6 /56; further ones are closed at once.
    pub per_client: usize,
    /// Proxies, whose connections are those of many clients: they are not counted per client.
    pub proxies: Vec<Network>,
    /// From the accept to the end of the first request's head, a TLS handshake included.
    pub first_head: Duration,
    /// How long the head of a later request may take, and how long an idle connection is kept.
    pub head: Duration,
    /// How long bytes may wait for a client that reads none of them.
    pub stall: Duration,
    /// How long an answer may take, from the head of its request. After that, bytes that a client has not read do not
    /// delay the end of the answer.
    pub answer: Duration,
}

/// The connections of one listener.
pub struct Connections {
    http: http1::Builder,
    bounds: Bounds,
    places: Arc<Semaphore>,
    shares: Arc<Shares>,
    counts: Counts,
    /// Rate limits of two log lines; the one about refused clients names no address.
    waits: Throttle,
    refusals: Throttle,
    tasks: TaskTracker,
    /// Cancelled to close each connection after its current answer.
    closing: CancellationToken,
    /// Cancelled to close all connections.
    closed: CancellationToken,
    /// Cancelled to end all answers, also those whose clients do not read.
    cut: CancellationToken,
}

/// The resources of an open connection, given back when it is dropped.
struct Open {
    counts: Counts,
    _place: OwnedSemaphorePermit,
    _share: Share,
}

/// Serves a listener until `stop`, and then gives running answers up to `drain` to end.
pub async fn serve<Serve, Answer, Content>(
    socket: Socket,
    bounds: Bounds,
    stop: CancellationToken,
    drain: Duration,
    serve: Serve,
) where
    Serve: Fn(Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Response<Content>> + Send + 'static,
    Content: Body<Data = Bytes> + Send + 'static,
    Content::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let connections = Connections::new(bounds, Counts::default(), CancellationToken::new());
    let accepting = async {
        match &socket {
            Socket::Tcp(listener) => {
                let serve = move |_, request| serve(request);
                connections.accept(listener, clear, serve).await;
            }
            Socket::Unix(listener, _) => connections.accept_unix(listener, serve).await,
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(socket);
    connections.drain(drain).await;
    connections.close().await;
}

/// The handshake of connections without TLS, which does nothing.
pub async fn clear<S: Send>(stream: Paced<S>) -> io::Result<Paced<S>> {
    Ok(stream)
}

// === impl Bounds ===

impl Bounds {
    /// Limits of a port for scrapers and probes: few clients, small answers.
    #[must_use]
    pub fn of_probes() -> Self {
        Self {
            connections: 256,
            per_client: 64,
            proxies: Vec::new(),
            first_head: Duration::from_secs(10),
            head: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            answer: Duration::from_secs(30),
        }
    }
}

// === impl Connections ===

impl Connections {
    /// Connections within these bounds. Cancelling `cut` ends all answers, also those whose clients do not read.
    #[must_use]
    pub fn new(bounds: Bounds, counts: Counts, cut: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_buf_size(BUFFER);
        Self {
            http,
            places: Arc::new(Semaphore::new(bounds.connections)),
            shares: Shares::new(bounds.per_client, bounds.proxies.clone()),
            bounds,
            counts,
            waits: Throttle::new(1, Duration::from_mins(1)),
            refusals: Throttle::new(1, Duration::from_mins(1)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            cut,
        }
    }

    /// Whether new connections have to wait for another one to end.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.counts.full.get() == 1
    }

    /// Accepts connections from a TCP port for as long as it is polled; each is served by a task of its own.
    ///
    /// Each connection begins with the handshake; [`clear`] is the one without TLS.
    pub async fn accept<Handshake, Shaking, Stream, Serve, Answer, Content>(
        &self,
        listener: &TcpListener,
        handshake: Handshake,
        serve: Serve,
    ) where
        Handshake: Fn(Paced<tokio::net::TcpStream>) -> Shaking,
        Shaking: Future<Output = io::Result<Stream>> + Send + 'static,
        Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        Serve: Fn(IpAddr, Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data = Bytes> + Send + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        loop {
            let place = self.place().await;
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            let Some(share) = self.shares.take(peer) else {
                self.refuse();
                continue;
            };
            // Setting options fails if the peer has disconnected already.
            if socket::configure(&stream).is_err() {
                continue;
            }
            let serve = serve.clone();
            let (progress, stream) = self.paced(stream);
            let serve = move |request| serve(peer, request);
            self.begin(
                Open::new(&self.counts, place, share),
                progress,
                handshake(stream),
                serve,
            );
        }
    }

    /// Accepts connections from a Unix socket for as long as it is polled. Its peers are processes of this machine, and
    /// are not counted per client.
    async fn accept_unix<Serve, Answer, Content>(&self, listener: &UnixListener, serve: Serve)
    where
        Serve: Fn(Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data = Bytes> + Send + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        loop {
            let place = self.place().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            let (progress, stream) = self.paced(stream);
            let open = Open::new(&self.counts, place, Share::uncounted());
            self.begin(open, progress, clear(stream), serve.clone());
        }
    }

    /// Waits until another connection may be opened.
    async fn place(&self) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.places);
        let place = if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            Ok(place)
        } else {
            self.counts.full.set(1);
            if let Some(suppressed) = self.waits.admit() {
                let most = self.bounds.connections;
                tracing::warn!(
                    most,
                    suppressed,
                    "no more connections are accepted until one ends"
                );
            }
            let place = places.acquire_owned().await;
            self.counts.full.set(0);
            place
        };
        place.expect("the semaphore should never be closed")
    }

    /// Counts and logs a connection that is closed because its client has too many.
    fn refuse(&self) {
        self.counts.over_share.inc();
        if let Some(suppressed) = self.refusals.admit() {
            let most = self.bounds.per_client;
            tracing::warn!(
                most,
                suppressed,
                "connections of a client beyond its share are closed"
            );
        }
    }

    fn paced<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> (Arc<Progress>, Paced<S>) {
        let progress = Progress::new(self.cut.clone(), self.counts.clone());
        let paced = Paced::new(stream, Arc::clone(&progress), self.bounds.stall);
        (progress, paced)
    }

    fn begin<Shaking, Stream, Serve, Answer, Content>(
        &self,
        open: Open,
        progress: Arc<Progress>,
        handshake: Shaking,
        serve: Serve,
    ) where
        Shaking: Future<Output = io::Result<Stream>> + Send + 'static,
        Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        Serve: Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data = Bytes> + Send + 'static,
        Content::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let conversation = Conversation {
            http: self.http.clone(),
            progress,
            first_head: Instant::now() + self.bounds.first_head,
            answer: self.bounds.answer,
            closing: self.closing.clone(),
            no_request: self.counts.no_request.clone(),
        };
        let closed = self.closed.clone();
        // Moving a future into `spawn` keeps a copy of its size at every level; in a box it is stored once.
        let serving = Box::pin(async move {
            let _open = open;
            conversation.hold(handshake, serve).await;
        });
        self.tasks
            .spawn(async move { closed.run_until_cancelled(serving).await });
    }

    /// Closes idle connections at once, and waits up to `time` for the answers on the others.
    pub async fn drain(&self, time: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(time, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "the time to drain is over");
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Waits after a failed accept if the machine is the cause: an immediate retry would only use up the processor.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // The peer gave up before it was accepted; the listener works.
    let is_of_peer = matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    );
    if !is_of_peer {
        tracing::warn!(%error, "cannot accept connections");
        sleep(ACCEPT_PAUSE).await;
    }
}

// === impl Open ===

impl Open {
    fn new(counts: &Counts, place: OwnedSemaphorePermit, share: Share) -> Self {
        counts.open.inc();
        Self {
            counts: counts.clone(),
            _place: place,
            _share: share,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.open.dec();
    }
}
