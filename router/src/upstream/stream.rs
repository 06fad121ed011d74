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
use crate::hop::{Call, Lost};
use crate::place::{Outcome, Slot};
use crate::quarantine::Suspect;
use crate::request_id::RequestId;

/// A request on its worker, and the events of its answer. Dropped before its end, it leaves a task that ends the
/// request on its worker and tells what was used.
pub(super) struct WorkerStream(Phase);

enum Phase {
    Running(Running),
    /// The last event was given out; the transport's own end is still to come. Dropping the stream
    /// before it would cancel what is complete.
    Finished(Call),
    Ended,
}

/// A request as it goes to a worker.
pub(super) struct Sent {
    pub(super) id: RequestId,
    pub(super) request: GenerateRequest,
    /// What is told where it ends an engine.
    pub(super) suspect: Suspect,
}

/// Why an answer broke off, and what was produced until then, where the worker said so.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) error: StreamError,
    pub(super) usage: Option<Usage>,
}

// === impl WorkerStream ===

impl WorkerStream {
    /// Sends a request to its worker. What it used is told by the second value, should it be cancelled; `tasks` owns
    /// the task that waits for that.
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

    /// The next event. `Failed` comes as an error, and so does a stream that just ends; after
    /// `Finished` comes `None`.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Broken>>> {
        loop {
            let call = match &mut self.0 {
                Phase::Running(running) => &mut running.call,
                Phase::Finished(call) => {
                    // Whatever it is, the answer was complete before it.
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
                // An event of a later version of the contract.
                Some(Ok(GenerateEvent { event: None })) => continue,
                Some(Err(lost)) => (lost.into(), None),
                // The connection is whole: no worker died.
                None => (StreamError::Contract("no event was the last one"), None),
            };
            let error = self.failed(error, usage);
            self.0 = Phase::Ended;
            return Poll::Ready(Some(Err(Broken { error, usage })));
        }
    }

    /// The first token is there.
    pub(super) fn begun(&self) {
        if let Phase::Running(running) = &self.0 {
            running.slot.begun();
        }
    }

    /// Takes note of what was produced; with the last event the worker is done.
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

    /// Tells the worker's slot, and the quarantine, how the request failed. Gives the error that counts.
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
            running.slot.ends(Outcome::Died(running.slot.boot_id()));
        } else if error.is_of_the_worker() {
            running.slot.ends(Outcome::Failed);
        }
        // An engine beside its worker leaves the worker to say so.
        let alone = match error {
            StreamError::EngineCrashed { .. } => true,
            _ => died && running.slot.crashed_alone(),
        };
        if alone && running.suspect.crashed() {
            let (request_id, worker) = (running.id, running.slot.worker().endpoint());
            tracing::error!(%request_id, %worker, %error, "a request ended a second engine, and is refused from now on");
            return StreamError::CrashesEngine;
        }
        error
    }

    /// The events are not what the contract says.
    pub(super) fn broke_contract(&mut self) {
        if let Phase::Running(running) = &mut self.0 {
            running.slot.ends(Outcome::Failed);
        }
    }
}

impl Drop for WorkerStream {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut self.0, Phase::Ended);
        // Without a runtime the process is about to end.
        if let (Phase::Running(running), Ok(runtime)) = (phase, Handle::try_current()) {
            let tasks = running.tasks.clone();
            tasks.spawn_on(running.cancel(), &runtime);
        }
    }
}

impl From<Lost> for StreamError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Unseen(message) => Self::Unreachable { message },
            Lost::Died(message) => Self::Died { message },
        }
    }
}

/// Headers as what a trace context is written into.
struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (key.parse::<HeaderName>(), value.parse()) {
            self.0.insert(key, value);
        }
    }
}
