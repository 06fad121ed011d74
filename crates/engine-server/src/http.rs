//! HTTP/1.1 to the engine: a pooled connection for each running request.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::TokioTimer;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::url::ServerUrl;

/// The server is on this machine, so a connection opens at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of requests that need no inference.
const GET_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections that are kept.
const MAX_IDLE: usize = 256;
/// How long an idle connection is kept. uvicorn (vLLM, SGLang) and cpp-httplib (llama.cpp) close one after
/// 5 s: a request written at that moment fails, and cannot be told from one that killed the engine.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// An HTTP client of the server.
pub(crate) struct Client {
    url: ServerUrl,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

/// A response whose body is still to be read. Dropping it before its end closes the connection, by which the engine
/// notices that it should stop. Once it is read to its end, the connection returns to the pool.
pub(crate) struct ResponseStream {
    response: Response<Incoming>,
}

/// Why a response is missing or incomplete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection was opened, so the engine never got the request.
    #[error("{}", refused(.0))]
    Connect(#[source] legacy::Error),
    /// The connection broke before the head of the answer; the engine may have got the request.
    #[error("the connection broke before the answer")]
    Headless(#[source] legacy::Error),
    /// The connection broke in the middle of the answer.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// No response within the timeout.
    #[error("no answer within {} s", GET_TIMEOUT.as_secs())]
    Silent,
    /// The body is longer than the limit.
    #[error("the answer is too long")]
    TooLong,
}

/// Owns the connections' tasks, which end with `closed`.
#[derive(Clone)]
struct Executor {
    tasks: TaskTracker,
    closed: CancellationToken,
}

// === impl Client ===

impl Client {
    /// A client without a connection yet; they all end with `closed`.
    pub(crate) fn new(url: ServerUrl, closed: CancellationToken) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // A request is one write; waiting for more would only delay it.
        connector.set_nodelay(true);
        let executor = Executor {
            tasks: TaskTracker::new(),
            closed,
        };
        let pool = Pool::builder(executor)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            // Resends only what was never written to a connection.
            .retry_canceled_requests(true)
            .build(connector);
        Self { url, pool }
    }

    /// Where the engine is.
    pub(crate) fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Sends a JSON body.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes its connection.
    pub(crate) async fn post(
        &self,
        endpoint: &str,
        body: Bytes,
    ) -> Result<ResponseStream, HttpError> {
        self.send(Method::POST, endpoint, body).await
    }

    /// Gets a whole body of at most `limit` bytes.
    pub(crate) async fn get(
        &self,
        endpoint: &str,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let get = async {
            let mut response = self.send(Method::GET, endpoint, Bytes::new()).await?;
            let status = response.status();
            let body = response.whole(limit).await?;
            Ok((status, body))
        };
        timeout(GET_TIMEOUT, get)
            .await
            .unwrap_or(Err(HttpError::Silent))
    }

    async fn send(
        &self,
        method: Method,
        endpoint: &str,
        body: Bytes,
    ) -> Result<ResponseStream, HttpError> {
        let request = Request::builder()
            .method(method)
            .uri(self.url.at(endpoint))
            .header(ACCEPT, "text/event-stream, application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("a checked address and a fixed endpoint should be a URI");
        let response = self.pool.request(request).await.map_err(|error| {
            if error.is_connect() {
                HttpError::Connect(error)
            } else {
                HttpError::Headless(error)
            }
        })?;
        Ok(ResponseStream { response })
    }
}

fn refused(error: &legacy::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut said = error.to_string();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return "connection refused".to_owned(),
                _ => said = error.to_string(),
            }
        }
        cause = error.source();
    }
    said
}

// === impl Executor ===

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            // Dropping a connection's task fails the requests on it.
            closed.run_until_cancelled(task).await;
        });
    }
}

// === impl ResponseStream ===

impl ResponseStream {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The body is one JSON value, not a stream of events.
    pub(crate) fn is_json(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    }

    /// The next bytes of the body.
    ///
    /// # Cancellation
    ///
    /// May be dropped at any time; no bytes are lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
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
    pub(crate) async fn whole(&mut self, limit: usize) -> Result<Bytes, HttpError> {
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
