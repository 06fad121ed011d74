//! Steps 5 and 6: one request against the workers of its model, from the queue to the last event.
//!
//! [`Upstream`] is a state machine that its consumer polls. It waits for a worker, sends the request, and until the
//! first event of the answer it may try another worker; from then on no other worker takes over. An answer that breaks
//! off after that ends with its error: a later attempt that continues it would begin in [`State::Streaming`].

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

use crate::place::{Fleet, PlaceError, Placed, Seeker, Worker, place};
use crate::quarantine::Suspect;
use crate::request_id::RequestId;
use crate::reserve::{Need, Recount, ReserveError, ReservedParts, ReservedRequest};
use crate::telemetry::Telemetry;

mod cancellation;
mod error;
mod event;
mod retry;
mod stream;

pub(crate) use cancellation::{FinalUsage, PendingUsage};
pub(crate) use error::{DispatchError, StreamError};
pub(crate) use event::{UpstreamError, UpstreamEvent};

use retry::RetryPolicy;
use stream::{Broken, Sent, WorkerStream};

/// While workers fail, every request is tried on several of them.
static WARNINGS: Throttle = Throttle::new(50, Duration::from_secs(10));

/// What all requests to workers share.
pub(crate) struct Dispatcher {
    pub(crate) fleet: Fleet,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Cancelled requests whose workers have yet to say what they used; each ends within seconds.
    pub(crate) cancelled: TaskTracker,
}

/// A request to dispatch.
pub(crate) struct Dispatch<'a> {
    pub(crate) id: RequestId,
    pub(crate) deadline: Instant,
    /// Whose request it is: that decides how it waits.
    pub(crate) key: &'a Key,
    pub(crate) reserved: ReservedRequest,
    /// What is told where the request ends an engine.
    pub(crate) suspect: Suspect,
    /// Whether each placement is an event too.
    pub(crate) explain: bool,
}

/// A request on its way to the end of its answer. Dropped, it leaves the queue, or its worker is told to end and says
/// what it used to the [`PendingUsage`] of the attempt.
pub(crate) struct Upstream {
    dispatcher: Arc<Dispatcher>,
    id: RequestId,
    deadline: Instant,
    model: Arc<str>,
    request: GenerateRequest,
    recount: Option<Recount>,
    suspect: Suspect,
    explain: bool,
    /// That of the request; the state machine may be polled outside it.
    span: Span,
    retry: RetryPolicy,
    state: State,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How far a request is.
#[expect(clippy::large_enum_variant, reason = "nearly all are streaming")]
enum State {
    /// It waits for a worker with room.
    Queued(Work<(Seeker, Result<Placed, PlaceError>)>),
    /// It has a place on a worker, which is not asked yet.
    Placed(Seeker, Placed),
    /// The worker counts and computes the prompt.
    Prefill(Attempt),
    /// The attempt has failed before the first event of the answer.
    Failed(Seeker, Arc<Worker>, StreamError),
    /// A worker has counted the prompt: its exact cost is reserved.
    Recounting(
        Seeker,
        Work<(Result<Need, ReserveError>, Box<GenerateRequest>)>,
    ),
    /// The first event of the answer was given out.
    Streaming(WorkerStream),
    Ended,
}

/// A request that a worker has, without an event of its answer.
struct Attempt {
    seeker: Seeker,
    worker: Arc<Worker>,
    stream: WorkerStream,
    // It lasts until that event, for traces.
    _span: Span,
}

/// What one step brings.
enum Step {
    Event(UpstreamEvent),
    /// Nothing that is told; the next state goes on.
    Next,
    Fail(DispatchError),
    End,
}

// === impl Upstream ===

impl Upstream {
    pub(crate) fn new(dispatcher: &Arc<Dispatcher>, dispatch: Dispatch<'_>) -> Self {
        let ReservedParts {
            model,
            request,
            work,
            recount,
        } = dispatch.reserved.into_parts();
        let seeker = Seeker::new(dispatch.id, &model, work, dispatch.key);
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
        upstream.state = upstream.queued(seeker);
        upstream
    }

    /// What happens next; `None`: the answer is complete. After an error it is not to be polled again.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<UpstreamEvent, UpstreamError>>> {
        loop {
            // Nearly every poll is of a stream, which stays where it is.
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

    /// The consumer found that the events are not what the contract says.
    pub(crate) fn broke_contract(&mut self) {
        if let State::Streaming(stream) = &mut self.state {
            stream.broke_contract();
        }
    }

    /// One step before the first event of the answer. A state that waits is put back.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let (state, step) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Queued(mut work) => match work.as_mut().poll(cx) {
                Poll::Pending => (State::Queued(work), None),
                Poll::Ready((seeker, placed)) => self.placed(seeker, placed),
            },
            State::Placed(seeker, placed) => self.open(seeker, placed),
            State::Prefill(mut attempt) => match attempt.stream.poll_event(cx) {
                Poll::Pending => (State::Prefill(attempt), None),
                Poll::Ready(next) => attempt.goes_on(next),
            },
            State::Failed(seeker, worker, error) => self.failed(seeker, worker, error),
            State::Recounting(seeker, mut work) => match work.as_mut().poll(cx) {
                Poll::Pending => (State::Recounting(seeker, work), None),
                Poll::Ready((need, request)) => self.recounted(seeker, need, *request),
            },
            State::Streaming(_) | State::Ended => (State::Ended, Some(Step::End)),
        };
        self.state = state;
        step.map_or(Poll::Pending, Poll::Ready)
    }

    /// Looks for a worker, other than those that this request has failed on.
    fn queued(&mut self, mut seeker: Seeker) -> State {
        if self.retry.should_wait() {
            seeker.back_off();
        }
        let (dispatcher, tried) = (Arc::clone(&self.dispatcher), self.retry.workers().to_vec());
        let work = async move {
            let placed = place(&dispatcher.fleet, &mut seeker, &tried).await;
            (seeker, placed)
        };
        State::Queued(Box::pin(work.instrument(self.span.clone())))
    }

    fn placed(
        &mut self,
        seeker: Seeker,
        placed: Result<Placed, PlaceError>,
    ) -> (State, Option<Step>) {
        let telemetry = &self.dispatcher.telemetry;
        telemetry.line.sought(&seeker, &placed);
        match placed {
            Ok(placed) => {
                telemetry.placed(&self.model, placed.cached);
                let decided = Arc::clone(&placed.decided);
                let told = (self.explain).then_some(Step::Event(UpstreamEvent::Placed(decided)));
                (
                    State::Placed(seeker, placed),
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
    fn open(&mut self, seeker: Seeker, placed: Placed) -> (State, Option<Step>) {
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
        let (boot_id, worker) = (placed.slot.boot_id(), Arc::clone(placed.slot.worker()));
        let tasks = &self.dispatcher.cancelled;
        let (stream, pending) = WorkerStream::open(placed.slot, sent, tasks, &span);
        let attempt = Attempt {
            seeker,
            worker,
            stream,
            _span: span,
        };
        let event = UpstreamEvent::Attempt { boot_id, pending };
        (State::Prefill(attempt), Some(Step::Event(event)))
    }

    /// Whether another attempt follows.
    fn failed(
        &mut self,
        seeker: Seeker,
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
            return (State::Recounting(seeker, work), Some(Step::Next));
        }
        if !error.is_of_the_caller()
            && let Some(suppressed) = WARNINGS.admit()
        {
            let (request_id, worker) = (self.id, worker.endpoint());
            tracing::warn!(%request_id, %worker, %error, suppressed, "a try failed");
        }
        match self.retry.failed(worker, error) {
            Ok(reason) => {
                self.dispatcher.telemetry.retried(&self.model, reason);
                (self.queued(seeker), Some(Step::Next))
            }
            Err(error) => (State::Ended, Some(Step::Fail(error.into()))),
        }
    }

    fn recounted(
        &mut self,
        seeker: Seeker,
        need: Result<Need, ReserveError>,
        request: GenerateRequest,
    ) -> (State, Option<Step>) {
        self.request = request;
        match need {
            Ok(need) => {
                let event = UpstreamEvent::Reserved(need);
                (self.queued(seeker), Some(Step::Event(event)))
            }
            Err(error) => (State::Ended, Some(Step::Fail(error.into()))),
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// Takes what the worker said.
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
        // Nothing came of it: only what the worker itself says was used counts.
        let event = UpstreamEvent::AttemptFailed(usage.unwrap_or_default());
        let state = State::Failed(self.seeker, self.worker, error);
        (state, Some(Step::Event(event)))
    }
}
