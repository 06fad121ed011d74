//! The events of one worker for one request.

use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{GenerateEvent, GenerateRequest, Usage};
use opentelemetry::propagation::Injector;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::cancellation::{PendingUsage, Running};
use super::error::StreamError;
use crate::grpc::{Call, TransportError};
use crate::place::{Outcome, Slot};
use crate::quarantine::Suspect;
use inferyard_domain::RequestId;

/// A request on its worker, and the events of its answer. Dropping it early spawns a task that cancels the request on
/// its worker and sends the final usage.
pub(super) struct WorkerStream(Phase);

enum Phase {
    Running(Running),
    /// The last event was returned; the end of the transport stream is still to come. Dropping it earlier would reset
    /// a stream that is complete.
    Finished(Call),
    Ended,
}

/// A request to send to a worker.
pub(super) struct Sent {
    pub(super) id: RequestId,
    pub(super) request: GenerateRequest,
    /// Notified if the request crashes an engine.
    pub(super) suspect: Suspect,
}

/// Why an answer broke off, and its usage if the worker reported it.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) error: StreamError,
    pub(super) usage: Option<Usage>,
}

// === impl WorkerStream ===

impl WorkerStream {
    /// Sends a request to its worker. The second value receives the usage if the request is cancelled; `tasks` tracks
    /// the task that sends it.
    pub(super) fn open(
        slot: Slot,
        sent: Sent,
        tasks: &TaskTracker,
        span: &Span,
    ) -> (Self, PendingUsage) {
        let (sender, usage) = oneshot::channel();
        let pending = PendingUsage {
            usage,
            tasks: tasks.clone(),
        };
        let mut headers = HeaderMap::with_capacity(8);
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&span.context(), &mut Headers(&mut headers));
        });
        let running = Running {
            call: Call::new(slot.worker().connection(), headers, sent.request),
            id: sent.id,
            suspect: sent.suspect,
            slot,
            usage: sender,
            tasks: tasks.clone(),
        };
        (Self(Phase::Running(running)), pending)
    }

    /// The next event; `None` after `Finished`. `Failed` and a stream without a last event are errors.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Broken>>> {
        loop {
            let call = match &mut self.0 {
                Phase::Running(running) => &mut running.call,
                Phase::Finished(call) => {
                    // The answer was complete, so an error no longer matters.
                    let _ = ready!(call.poll_event(cx));
                    self.0 = Phase::Ended;
                    return Poll::Ready(None);
                }
                Phase::Ended => return Poll::Ready(None),
            };
            let (error, usage) = match ready!(call.poll_event(cx)) {
                Some(Ok(GenerateEvent { event: Some(event) })) => match event {
                    Event::Failed(failed) => StreamError::from_failed(failed),
                    event => {
                        self.produced(&event);
                        return Poll::Ready(Some(Ok(event)));
                    }
                },
                // An event of a later protocol version.
                Some(Ok(GenerateEvent { event: None })) => continue,
                Some(Err(lost)) => (lost.into(), None),
                // The stream ended with status OK, so the worker did not die.
                None => (StreamError::Contract("no event was the last one"), None),
            };
            let error = self.failed(error, usage);
            self.0 = Phase::Ended;
            return Poll::Ready(Some(Err(Broken { error, usage })));
        }
    }

    /// The first token arrived.
    pub(super) fn begun(&self) {
        if let Phase::Running(running) = &self.0 {
            running.slot.begun();
        }
    }

    /// Counts the tokens of an event. After the last event, frees the slot.
    fn produced(&mut self, event: &Event) {
        let Phase::Running(running) = &mut self.0 else {
            return;
        };
        match event {
            Event::Delta(delta) => running.slot.produced(delta.token_count),
            Event::Finished(finished) => {
                if let Some(usage) = finished.usage {
                    running.slot.produced_in_all(usage.completion_tokens);
                }
                running.slot.ends(Outcome::Succeeded);
                if let Phase::Running(running) = std::mem::replace(&mut self.0, Phase::Ended) {
                    self.0 = Phase::Finished(running.call);
                }
            }
            Event::Admitted(_) | Event::ChoiceFinished(_) | Event::Failed(_) => {}
        }
    }

    /// Reports the failure to the slot and the quarantine, and returns the error for the caller.
    fn failed(&mut self, error: StreamError, usage: Option<Usage>) -> StreamError {
        let Phase::Running(running) = &mut self.0 else {
            return error;
        };
        if let Some(usage) = usage {
            running.slot.produced_in_all(usage.completion_tokens);
        }
        if matches!(error, StreamError::Overloaded) {
            running.slot.refused();
        }
        let died = matches!(error, StreamError::Died { .. });
        if died {
            running.slot.ends(Outcome::Died(running.slot.instance()));
        } else if error.is_of_the_worker() {
            running.slot.ends(Outcome::Failed);
        }
        // An engine in its own process: the worker reports its crash.
        let alone = match error {
            StreamError::EngineCrashed { .. } => true,
            _ => died && running.slot.crashed_alone(),
        };
        if alone && running.suspect.crashed() {
            let (request_id, worker) = (running.id, running.slot.worker().endpoint());
            tracing::error!(%request_id, %worker, %error, "a request crashed a second engine and is refused for a while");
            return StreamError::CrashesEngine;
        }
        error
    }

    /// Records a violation of the worker protocol.
    pub(super) fn broke_contract(&mut self) {
        if let Phase::Running(running) = &mut self.0 {
            running.slot.ends(Outcome::Failed);
        }
    }
}

impl Drop for WorkerStream {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut self.0, Phase::Ended);
        // Without a runtime, the process is shutting down.
        if let (Phase::Running(running), Ok(runtime)) = (phase, Handle::try_current()) {
            let tasks = running.tasks.clone();
            tasks.spawn_on(running.cancel(), &runtime);
        }
    }
}

impl From<TransportError> for StreamError {
    fn from(lost: TransportError) -> Self {
        match lost {
            TransportError::Unseen(message) => Self::Unreachable { message },
            TransportError::Died(message) => Self::Died { message },
        }
    }
}

/// Adapts HTTP headers for trace propagation.
struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (key.parse::<HeaderName>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}
