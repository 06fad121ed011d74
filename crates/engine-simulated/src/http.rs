//! The simulated engine over OpenAI's HTTP API, so that any router can be put before it.
//!
//! ```text
//!  ask        a body → a request, its prefix blocks by our own chain of hashes
//!  (engine)   the same line, the same GPU, the same cache as over gRPC
//!  stream     events → OpenAI's event stream; what is ready leaves together
//!  whole      events → one body
//!  pages      what routers ask beside that: health, models, loads, metrics
//! ```
//!
//! # Cancellation
//!
//! A client that leaves drops its body or future, and with it the events: the request ends.

mod ask;
mod stream;
mod whole;
mod wire;
mod pages;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use inferyard_engine::Engine;
use inferyard_engine::event::{Failure, FailureKind};
use inferyard_engine::reply::Events;
use inferyard_engine::state::{Outcome, State};
use inferyard_listen::{Bounds, Socket};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::SimulatedEngine;

use ask::{Ask, Endpoint};
use stream::Stream;
use wire::Head;

/// The largest body.
const MAX_BODY: usize = 64 << 20;

/// Open connections: those of a benchmark, all from one router.
const CONNECTIONS: usize = 32 << 10;
/// How long an answer may take, and how long answers have to end at the shutdown.
const ANSWER_TIME: Duration = Duration::from_hours(1);

/// The server.
pub(crate) struct Server {
    state: Arc<State>,
    engine: SimulatedEngine,
    // So far.
    answers: AtomicU64,
}

/// The body of a response.
enum Content {
    Whole(Full<Bytes>),
    Stream(Box<Stream>),
}

// === impl Server ===

impl Server {
    /// A server before this engine.
    pub(crate) fn new(state: Arc<State>, engine: SimulatedEngine) -> Arc<Self> {
        Arc::new(Self {
            state,
            engine,
            answers: AtomicU64::new(0),
        })
    }

    /// Answers until the worker ends; open connections are served until they are done.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let bounds = Bounds {
            connections: CONNECTIONS,
            per_client: CONNECTIONS,
            answer: ANSWER_TIME,
            ..Bounds::of_probes()
        };
        let serve = move |request| {
            let server = Arc::clone(&self);
            async move { server.respond(request).await }
        };
        let socket = Socket::Tcp(listener);
        inferyard_listen::serve(socket, bounds, shutdown, ANSWER_TIME, serve).await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Content> {
        let path = request.uri().path();
        let endpoint = match path {
            "/v1/chat/completions" => Endpoint::Chat,
            "/v1/completions" => Endpoint::Completions,
            _ if *request.method() == Method::GET => return pages::page(&self.state, path),
            _ => return wire::unknown(),
        };
        if *request.method() != Method::POST {
            return wire::unknown();
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
        let answer = match body {
            Ok(body) => self.answer(endpoint, body.to_bytes()).await,
            Err(_) => Err(Failure::new(
                FailureKind::InvalidRequest,
                "The body is larger than 64 MiB, or broke off.",
            )),
        };
        answer.unwrap_or_else(|failure| wire::refusal(&failure))
    }

    async fn answer(&self, endpoint: Endpoint, body: Bytes) -> Result<Response<Content>, Failure> {
        let started = self.start(endpoint, &body);
        let (events, head, shape) = started.inspect_err(|failure| {
            self.state
                .count(Outcome::Failed(failure.kind), failure.usage);
        })?;
        if !shape.streamed {
            let body = whole::collect(events, &head, shape).await?;
            return Ok(json(StatusCode::OK, body));
        }
        let stream = Stream::new(events, &head, shape);
        let mut response = Response::new(Content::Stream(Box::new(stream)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }

    fn start(
        &self,
        endpoint: Endpoint,
        body: &Bytes,
    ) -> Result<(Events, Head, ask::Shape), Failure> {
        let Ask {
            model,
            request,
            shape,
        } = Ask::read(endpoint, body)?;
        if model != self.state.model() {
            let message = format!("The model `{model}` does not exist.");
            return Err(Failure {
                param: Some("model".into()),
                ..Failure::new(FailureKind::UnknownModel, message)
            });
        }
        let events = self.engine.generate(request)?;
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let head = Head {
            id: format!("{:016x}{number:016x}", self.state.instance_id()),
            created: now(),
            model,
        };
        Ok((events, head, shape))
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A response of JSON.
fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

// === impl Content ===

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Stream(stream) => stream
                .poll_next(cx)
                .map(|next| next.map(Frame::data).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
