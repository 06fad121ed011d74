//! The gRPC services of a worker. Wire types are converted here and are not used behind it.

mod read;
mod write;
mod watch;
mod open;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use inferyard_engine::Engine;
use inferyard_engine::event::{Event, Failure, FailureKind};
use inferyard_engine::reply::Events;
use inferyard_engine::state::{Outcome, State};
use inferyard_proto::worker::v1 as wire;
use inferyard_proto::worker::v1::worker_server::WorkerServer;
use opentelemetry::propagation::Extractor;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::metadata::{KeyRef, MetadataMap};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use open::{Entry, Open};

/// The service `inferyard.worker.v1.Worker`.
#[derive(Clone)]
pub(crate) struct Service {
    /// The state that `Watch` streams show.
    pub(crate) state: Arc<State>,
    /// Set once the model is loaded.
    pub(crate) engine: Arc<OnceLock<Arc<dyn Engine>>>,
    /// The requests that can be cancelled.
    pub(crate) open: Arc<Open>,
    /// Owns the tasks of watchers.
    pub(crate) tasks: TaskTracker,
    /// Ends the watchers.
    pub(crate) shutdown: CancellationToken,
}

/// All gRPC services of a worker, told apart by the path of the call.
pub(crate) struct Services<H: Health> {
    /// `inferyard.worker.v1.Worker`.
    pub(crate) worker: WorkerServer<Service>,
    /// `grpc.health.v1`.
    pub(crate) health: HealthServer<H>,
}

/// The events of one request, as they go over the wire.
pub(crate) struct ResponseStream {
    events: Result<Events, Option<wire::GenerateEvent>>,
    span: Span,
    // The entry by which the request can be cancelled; None after the last event.
    entry: Option<Entry>,
}

// === impl Service ===

#[tonic::async_trait]
impl wire::worker_server::Worker for Service {
    type GenerateStream = ResponseStream;
    type WatchStream = ReceiverStream<Result<wire::WorkerState, Status>>;

    /// # Cancellation
    ///
    /// A client that drops the stream ends the request before its next token.
    async fn generate(
        &self,
        request: Request<wire::GenerateRequest>,
    ) -> Result<Response<ResponseStream>, Status> {
        let span = span(&request);
        let mut request = request.into_inner();
        let id = std::mem::take(&mut request.request_id);
        let events = span.in_scope(|| self.start(request));
        let entry = events.as_ref().ok();
        let entry = entry.and_then(|events| self.open.enter(id, events.cancel()));
        let events = events.map_err(|failure| {
            self.state
                .count(Outcome::Failed(failure.kind), failure.usage);
            record(&span, &Event::Failed(failure.clone()));
            Some(write::event(Event::Failed(failure)))
        });
        Ok(Response::new(ResponseStream {
            events,
            span,
            entry,
        }))
    }

    async fn cancel(
        &self,
        request: Request<wire::CancelRequest>,
    ) -> Result<Response<wire::CancelResponse>, Status> {
        if self.open.cancel(&request.get_ref().request_id) {
            Ok(Response::new(wire::CancelResponse {}))
        } else {
            Err(Status::not_found("no such request is here"))
        }
    }

    async fn watch(
        &self,
        _request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // A capacity of one: a slow watcher gets the newest state next, not old ones.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let watch = watch::run(Arc::clone(&self.state), sender, self.shutdown.clone());
        self.tasks.spawn(watch);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Service {
    fn start(&self, request: wire::GenerateRequest) -> Result<Events, Failure> {
        if request.model != self.state.model() {
            let message = format!("this worker serves `{}`", self.state.model());
            return Err(Failure::new(FailureKind::UnknownModel, message));
        }
        let Some(engine) = self.engine.get() else {
            return Err(Failure::new(
                FailureKind::Loading,
                "the model is still being loaded",
            ));
        };
        engine.generate(read::request(request)?)
    }
}

// === impl Services ===

impl<H: Health> Clone for Services<H> {
    fn clone(&self) -> Self {
        // A derived impl would require `H: Clone`, which its server does not need.
        Self {
            worker: self.worker.clone(),
            health: self.health.clone(),
        }
    }
}

impl<H: Health> tonic::codegen::Service<http::Request<Body>> for Services<H> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            self.health.call(request)
        } else {
            // It also answers unknown paths.
            self.worker.call(request)
        }
    }
}

// === impl ResponseStream ===

impl Stream for ResponseStream {
    type Item = Result<wire::GenerateEvent, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = self.get_mut();
        let events = match &mut answer.events {
            Ok(events) => events,
            Err(refusal) => return Poll::Ready(refusal.take().map(Ok)),
        };
        let event = ready!(Pin::new(events).poll_next(cx)).unwrap_or_else(|| {
            // The events end without a last one only if the engine broke.
            Event::Failed(Failure::new(FailureKind::Internal, "the engine broke"))
        });
        record(&answer.span, &event);
        if matches!(event, Event::Finished(_) | Event::Failed(_)) {
            answer.events = Err(None);
            answer.entry = None;
        }
        Poll::Ready(Some(Ok(write::event(event))))
    }
}

fn span(request: &Request<wire::GenerateRequest>) -> Span {
    let message = request.get_ref();
    let span = tracing::info_span!(
        "generate",
        request_id = message.request_id,
        model = message.model,
        prompt_tokens = field::Empty,
        cached_tokens = field::Empty,
        completion_tokens = field::Empty,
        outcome = field::Empty,
    );
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Metadata(request.metadata()))
    });
    // Fails if spans are not exported; then their parents do not matter.
    let _ = span.set_parent(parent);
    span
}

fn record(span: &Span, event: &Event) {
    match event {
        Event::Admitted {
            prompt_tokens,
            cached_tokens,
        } => {
            span.record("prompt_tokens", prompt_tokens);
            span.record("cached_tokens", cached_tokens);
        }
        Event::Delta(_) | Event::ChoiceFinished { .. } => {}
        Event::Finished(usage) => {
            span.record("completion_tokens", usage.completion_tokens);
            span.record("outcome", "finished");
            tracing::debug!(parent: span, "finished");
        }
        Event::Failed(failure) => {
            span.record("completion_tokens", failure.usage.completion_tokens);
            span.record("outcome", failure.kind.label());
            tracing::debug!(parent: span, "failed");
        }
    }
}

/// Request metadata, where `traceparent` is looked for.
struct Metadata<'a>(&'a MetadataMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let name = |key| match key {
            KeyRef::Ascii(key) => key.as_str(),
            KeyRef::Binary(key) => key.as_str(),
        };
        self.0.keys().map(name).collect()
    }
}
