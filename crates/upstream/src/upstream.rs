//! Steps 5 and 6: runs one request against the workers of its model, from the queue to the last event.
//!
//! [`Upstream`] is a state machine that its consumer polls. It waits for a worker and sends the request. Until the
//! first event of the answer it may retry on another worker. An answer that breaks off later ends with its error; a
//! future attempt that continues an answer would start in [`State::Streaming`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use inferyard_catalog::Key;
use inferyard_listen::Throttle;
use inferyard_proto::worker::v1::GenerateRequest;
use inferyard_proto::worker::v1::generate_event::Event;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use crate::metrics::Metrics;
use crate::place::{Fleet, PlaceError, Placed, PlacementRequest, Worker, place};
use crate::quarantine::Suspect;
use inferyard_admission::{Need, Recount, ReserveError, ReservedParts, ReservedRequest};
use inferyard_domain::{ModelId, RequestId};

mod cancellation;
mod error;
mod event;
mod retry;
mod stream;

pub use cancellation::{FinalUsage, PendingUsage};
pub use error::{DispatchError, StreamError};
pub use event::{UpstreamError, UpstreamEvent};

use retry::RetryPolicy;
use stream::{Broken, Sent, WorkerStream};

/// Bounds the warnings: while workers fail, every request is retried on several of them.
static WARNINGS: Throttle = Throttle::new(50, Duration::from_secs(10));

/// State shared by all requests to workers.
pub struct Dispatcher {
    /// The endpoint pools of all models.
    pub fleet: Fleet,
    /// Counters of placements, retries and queues.
    pub metrics: Arc<Metrics>,
    /// Tasks that wait for the final usage of cancelled requests; each ends within seconds.
    pub cancelled: TaskTracker,
}

/// A request to dispatch.
pub struct Dispatch<'a> {
    /// The id of the request.
    pub id: RequestId,
    /// When its worker gives it up.
    pub deadline: Instant,
    /// The API key of the request; its plan decides how the request waits.
    pub key: &'a Key,
    /// The request with its reservation.
    pub reserved: ReservedRequest,
    /// Notified if the request crashes an engine.
    pub suspect: Suspect,
    /// Whether each placement is also an event.
    pub explain: bool,
}

/// A request in progress. Dropping it leaves the queue, or cancels the request on its worker and sends the usage to
/// the [`PendingUsage`] of the attempt.
pub struct Upstream {
    dispatcher: Arc<Dispatcher>,
    id: RequestId,
    deadline: Instant,
    model: ModelId,
    request: GenerateRequest,
    recount: Option<Recount>,
    suspect: Suspect,
    explain: bool,
    /// The request's span; the state machine may be polled outside it.
    span: Span,
    retry: RetryPolicy,
    state: State,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The progress of a request.
#[expect(clippy::large_enum_variant, reason = "nearly all are streaming")]
enum State {
    /// Waits for a worker with room.
    Queued(Work<(PlacementRequest, Result<Placed, PlaceError>)>),
    /// Has a slot on a worker, but is not sent yet.
    Placed(PlacementRequest, Placed),
    /// The worker counts and computes the prompt.
    Prefill(Attempt),
    /// The attempt failed before the first event of the answer.
    Failed(PlacementRequest, Arc<Worker>, StreamError),
    /// A worker has counted the prompt; reserves its exact cost.
    Recounting(
        PlacementRequest,
        Work<(Result<Need, ReserveError>, Box<GenerateRequest>)>,
    ),
    /// The first event of the answer was returned.
    Streaming(WorkerStream),
    Ended,
}

/// A request on a worker, before the first event of its answer.
struct Attempt {
    placement: PlacementRequest,
    worker: Arc<Worker>,
    stream: WorkerStream,
    // Ends with the first event, for traces.
    _span: Span,
}

/// The result of one step.
enum Step {
    Event(UpstreamEvent),
    /// No event; the next state continues.
    Next,
    Fail(DispatchError),
    End,
}

// === impl Upstream ===

impl Upstream {
    /// Creates a request, which is sent when it is polled. Must be called inside the span of the request.
    #[must_use]
    pub fn new(dispatcher: &Arc<Dispatcher>, dispatch: Dispatch<'_>) -> Self {
        let ReservedParts {
            model,
            request,
            work,
            recount,
        } = dispatch.reserved.into_parts();
        let placement = PlacementRequest::new(dispatch.id, &model, work, dispatch.key);
        let mut upstream = Self {
            dispatcher: Arc::clone(dispatcher),
            id: dispatch.id,
            deadline: dispatch.deadline,
            model,
            request,
            recount,
            suspect: dispatch.suspect,
            explain: dispatch.explain,
            span: Span::current(),
            retry: RetryPolicy::default(),
            state: State::Ended,
        };
        upstream.state = upstream.queued(placement);
        upstream
    }

    /// The next event; `None`: the answer is complete. Must not be polled again after an error.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<UpstreamEvent, UpstreamError>>> {
        loop {
            // The usual case: the stream is polled in place, without moving the state.
            if let State::Streaming(stream) = &mut self.state {
                let next = ready!(stream.poll_event(cx));
                if !matches!(next, Some(Ok(_))) {
                    self.state = State::Ended;
                }
                let next = next.map(|next| next.map(UpstreamEvent::Answer));
                return Poll::Ready(next.map(|next| next.map_err(UpstreamError::from)));
            }
            match self.advance(cx) {
                Poll::Ready(Step::Event(event)) => return Poll::Ready(Some(Ok(event))),
                Poll::Ready(Step::Next) => {}
                Poll::Ready(Step::Fail(error)) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(Step::End) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The consumer found a violation of the worker protocol.
    pub fn broke_contract(&mut self) {
        if let State::Streaming(stream) = &mut self.state {
            stream.broke_contract();
        }
    }

    /// Takes one step before the first event of the answer. The state is moved out for the step; a pending one is put
    /// back.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let (state, step) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Queued(mut work) => match work.as_mut().poll(cx) {
                Poll::Pending => (State::Queued(work), None),
                Poll::Ready((placement, placed)) => self.placed(placement, placed),
            },
            State::Placed(placement, placed) => self.open(placement, placed),
            State::Prefill(mut attempt) => match attempt.stream.poll_event(cx) {
                Poll::Pending => (State::Prefill(attempt), None),
                Poll::Ready(next) => attempt.goes_on(next),
            },
            State::Failed(placement, worker, error) => self.failed(placement, worker, error),
            State::Recounting(placement, mut work) => match work.as_mut().poll(cx) {
                Poll::Pending => (State::Recounting(placement, work), None),
                Poll::Ready((need, request)) => self.recounted(placement, need, *request),
            },
            State::Streaming(_) | State::Ended => (State::Ended, Some(Step::End)),
        };
        self.state = state;
        step.map_or(Poll::Pending, Poll::Ready)
    }

    /// Seeks a worker that has not failed this request.
    fn queued(&mut self, mut placement: PlacementRequest) -> State {
        if self.retry.should_wait() {
            placement.back_off();
        }
        let (dispatcher, tried) = (Arc::clone(&self.dispatcher), self.retry.workers().to_vec());
        let work = async move {
            let placed = place(&dispatcher.fleet, &mut placement, &tried).await;
            (placement, placed)
        };
        State::Queued(Box::pin(work.instrument(self.span.clone())))
    }

    fn placed(
        &mut self,
        placement: PlacementRequest,
        placed: Result<Placed, PlaceError>,
    ) -> (State, Option<Step>) {
        let metrics = &self.dispatcher.metrics;
        metrics.queue.sought(&placement, &placed);
        match placed {
            Ok(placed) => {
                metrics.placed(&self.model, placed.cached);
                let decision = Arc::clone(&placed.decision);
                let told = (self.explain).then_some(Step::Event(UpstreamEvent::Placed(decision)));
                (
                    State::Placed(placement, placed),
                    Some(told.unwrap_or(Step::Next)),
                )
            }
            Err(none) => {
                let error = std::mem::take(&mut self.retry).none_left(none);
                (State::Ended, Some(Step::Fail(error)))
            }
        }
    }

    /// Sends the request to its worker.
    fn open(&mut self, placement: PlacementRequest, placed: Placed) -> (State, Option<Step>) {
        let span = tracing::debug_span!(parent: &self.span, "open");
        let left = self.deadline.duration_since(Instant::now());
        let sent = Sent {
            id: self.id,
            request: GenerateRequest {
                deadline_ms: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                ..self.request.clone()
            },
            suspect: self.suspect.clone(),
        };
        let (instance, worker) = (placed.slot.instance(), Arc::clone(placed.slot.worker()));
        let tasks = &self.dispatcher.cancelled;
        let (stream, pending) = WorkerStream::open(placed.slot, sent, tasks, &span);
        let attempt = Attempt {
            placement,
            worker,
            stream,
            _span: span,
        };
        let event = UpstreamEvent::Attempt { instance, pending };
        (State::Prefill(attempt), Some(Step::Event(event)))
    }

    /// Decides whether another attempt follows.
    fn failed(
        &mut self,
        placement: PlacementRequest,
        worker: Arc<Worker>,
        error: StreamError,
    ) -> (State, Option<Step>) {
        if let StreamError::PromptTooExpensive { prompt_tokens } = error
            && let Some(recount) = self.recount.take()
        {
            let mut request = Box::new(std::mem::take(&mut self.request));
            let work = async move {
                let need = recount.exact(prompt_tokens, &mut request).await;
                (need, request)
            };
            let work = Box::pin(work.instrument(self.span.clone()));
            return (State::Recounting(placement, work), Some(Step::Next));
        }
        if !error.is_of_the_caller()
            && let Some(suppressed) = WARNINGS.admit()
        {
            let (request_id, worker) = (self.id, worker.endpoint());
            tracing::warn!(%request_id, %worker, %error, suppressed, "an attempt failed");
        }
        match self.retry.failed(worker, error) {
            Ok(reason) => {
                self.dispatcher.metrics.retried(&self.model, reason);
                (self.queued(placement), Some(Step::Next))
            }
            Err(error) => (State::Ended, Some(Step::Fail(error.into()))),
        }
    }

    fn recounted(
        &mut self,
        placement: PlacementRequest,
        need: Result<Need, ReserveError>,
        request: GenerateRequest,
    ) -> (State, Option<Step>) {
        self.request = request;
        match need {
            Ok(need) => {
                let event = UpstreamEvent::Reserved(need);
                (self.queued(placement), Some(Step::Event(event)))
            }
            Err(error) => (State::Ended, Some(Step::Fail(error.into()))),
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// Handles an event of the worker.
    fn goes_on(self, next: Option<Result<Event, Broken>>) -> (State, Option<Step>) {
        let (error, usage) = match next {
            Some(Ok(Event::Admitted(admitted))) => {
                let event = UpstreamEvent::Admitted(admitted);
                return (State::Prefill(self), Some(Step::Event(event)));
            }
            Some(Ok(event)) => {
                self.stream.begun();
                let event = UpstreamEvent::Answer(event);
                return (State::Streaming(self.stream), Some(Step::Event(event)));
            }
            Some(Err(Broken { error, usage })) => (error, usage),
            None => (StreamError::Contract("no event was the last one"), None),
        };
        // The attempt gave no answer: only the usage that the worker itself reports counts.
        let event = UpstreamEvent::AttemptFailed(usage.unwrap_or_default());
        let state = State::Failed(self.placement, self.worker, error);
        (state, Some(Step::Event(event)))
    }
}
