//! HTTP/1.1 to the engine: a connection for each running request, kept for the next one.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::EngineUrl;

/// The engine is on this machine: a connection is there at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For answers that take an engine no computing.
const GET_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be ready for the next request.
const READY_TIMEOUT: Duration = Duration::from_millis(200);
/// Connections that wait for a request.
const MAX_IDLE: usize = 256;

type Connection = SendRequest<Full<Bytes>>;

/// A client of the engine.
pub(super) struct Client {
    url: EngineUrl,
    idle: Mutex<Vec<Connection>>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

/// An answer whose body is still to be read. Dropping it before its end closes the connection, which
/// is how an engine hears that nobody wants it.
pub(super) struct Answering {
    response: Response<Incoming>,
    connection: Connection,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// There is no connection.
    #[error("{}", refused(.0))]
    Connect(#[source] io::Error),
    /// It spoke no HTTP, or ended in the middle.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// Nothing came.
    #[error("no answer within {} s", GET_TIMEOUT.as_secs())]
    Silent,
    /// More came than anybody would send.
    #[error("the answer is too long")]
    TooLong,
}

// === impl Client ===

impl Client {
    /// A client without a connection yet; they all end with `closed`.
    pub(super) fn new(url: EngineUrl, closed: CancellationToken) -> Self {
        Self {
            url,
            idle: Mutex::default(),
            tasks: TaskTracker::new(),
            closed,
        }
    }

    /// Where the engine is.
    pub(super) fn url(&self) -> &EngineUrl {
        &self.url
    }

    /// Sends a JSON body.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes its connection.
    pub(super) async fn post(&self, endpoint: &str, body: Bytes) -> Result<Answering, HttpError> {
        self.send(Method::POST, endpoint, body).await
    }

    /// Gets a whole body of at most `limit` bytes.
    pub(super) async fn get(
        &self,
        endpoint: &str,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let get = async {
            let mut answering = self.send(Method::GET, endpoint, Bytes::new()).await?;
            let status = answering.status();
            let body = answering.whole(limit).await?;
            self.keep(answering).await;
            Ok((status, body))
        };
        timeout(GET_TIMEOUT, get)
            .await
            .unwrap_or(Err(HttpError::Silent))
    }

    /// Keeps the connection of an answer that was read to its end (any other is closed by this).
    pub(super) async fn keep(&self, answering: Answering) {
        let Answering {
            response,
            mut connection,
        } = answering;
        drop(response);
        if !matches!(timeout(READY_TIMEOUT, connection.ready()).await, Ok(Ok(()))) {
            return;
        }
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    async fn send(
        &self,
        method: Method,
        endpoint: &str,
        body: Bytes,
    ) -> Result<Answering, HttpError> {
        // The engine may close a kept connection while a request is on its way: that says nothing
        // about the request, so it is sent once more.
        if let Some(connection) = self.kept() {
            let request = self.request(&method, endpoint, body.clone());
            if let Ok(answering) = exchange(connection, request).await {
                return Ok(answering);
            }
        }
        let request = self.request(&method, endpoint, body);
        exchange(self.connect().await?, request).await
    }

    fn request(&self, method: &Method, endpoint: &str, body: Bytes) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(self.url.path(endpoint))
            .header(HOST, self.url.address().to_string())
            .header(ACCEPT, "text/event-stream, application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("a checked address and a fixed endpoint should be a URI")
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.lock();
        std::iter::from_fn(|| idle.pop()).find(SendRequest::is_ready)
    }

    async fn connect(&self) -> Result<Connection, HttpError> {
        let connect = TcpStream::connect(self.url.address());
        let stream = timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(HttpError::Connect)?;
        // A request is one write; waiting for more would only delay it.
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(HttpError::Broken)?;
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                // Whoever waits for its answer hears of its end.
                _ = driver => {}
                () = closed.cancelled() => {}
            }
        });
        Ok(connection)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // Connections are only put in and taken out.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
) -> Result<Answering, HttpError> {
    let response = connection
        .send_request(request)
        .await
        .map_err(HttpError::Broken)?;
    Ok(Answering {
        response,
        connection,
    })
}

fn refused(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

// === impl Answering ===

impl Answering {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The body is one JSON value, not a stream of events.
    pub(super) fn is_json(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    }

    /// The next bytes of the body.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost where the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            match self.response.body_mut().frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::Broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body.
    pub(super) async fn whole(&mut self, limit: usize) -> Result<Bytes, HttpError> {
        let mut whole = Vec::new();
        while let Some(data) = self.next().await? {
            if whole.len() + data.len() > limit {
                return Err(HttpError::TooLong);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }
}
