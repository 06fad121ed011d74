//! Step 6: the worker's events, from the commit point on.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{GenerateEvent, GenerateRequest, Usage};
use opentelemetry::propagation::Injector;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::accept::RequestId;
use crate::error::StreamError;
use crate::hop::{Call, Lost};
use crate::meter::{Note, Notes};
use crate::place::{Outcome, Slot};
use crate::quarantine::Suspect;

mod given_up;
mod tries;

pub(crate) use given_up::{Outstanding, Rest};
pub(crate) use tries::Tries;

use given_up::Running;

/// An answer that has begun: the first token is there, so no other worker takes over. Dropped before
/// its end, it leaves a task that ends the request on its worker and tells the meter what was used.
pub(crate) struct Tokens {
    /// The event that was the commit point, until it is taken.
    first: Option<Event>,
    phase: Phase,
}

enum Phase {
    Running(Running),
    /// The last event was given out; the transport's own end is still to come. Dropping the stream
    /// before it would cancel what is complete.
    Finished(Call),
    Ended,
}

/// A request as it goes to a worker.
pub(crate) struct Sent {
    pub(crate) id: RequestId,
    pub(crate) request: GenerateRequest,
    /// What is told where it ends an engine.
    pub(crate) suspect: Suspect,
}

/// Why an answer broke off, and what was produced until then, where the worker said so.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: StreamError,
    pub(crate) usage: Option<Usage>,
}

/// Sends a request to its worker and waits for the first token.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn open(
    slot: Slot,
    sent: Sent,
    notes: &Notes,
    tasks: &TaskTracker,
) -> Result<Tokens, StreamError> {
    let (sender, rest) = oneshot::channel();
    let outstanding = Outstanding {
        rest,
        tasks: tasks.clone(),
    };
    notes.write(Note::Tries(slot.boot_id(), outstanding));
    let mut headers = HeaderMap::with_capacity(8);
    let context = tracing::Span::current().context();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Headers(&mut headers));
    });
    let mut tokens = Tokens {
        first: None,
        phase: Phase::Running(Running {
            call: Call::new(slot.worker().connection(), headers, sent.request),
            id: sent.id,
            suspect: sent.suspect,
            slot,
            rest: sender,
            tasks: tasks.clone(),
        }),
    };
    loop {
        match poll_fn(|cx| tokens.poll_event(cx)).await {
            Some(Ok(Event::Admitted(admitted))) => notes.write(Note::Admitted(admitted)),
            Some(Ok(event)) => {
                notes.write(Note::Begins);
                tokens.begun();
                tokens.first = Some(event);
                return Ok(tokens);
            }
            Some(Err(Broken { error, usage })) => {
                // Nothing came of it: only what the worker itself says was used counts.
                notes.write(Note::Used(usage.unwrap_or_default()));
                return Err(error);
            }
            None => return Err(StreamError::Contract("no event was the last one")),
        }
    }
}

// === impl Tokens ===

impl Tokens {
    /// The next event. `Failed` comes as an error, and so does a stream that just ends; after
    /// `Finished` comes `None`.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Broken>>> {
        if let Some(event) = self.first.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        loop {
            let call = match &mut self.phase {
                Phase::Running(running) => &mut running.call,
                Phase::Finished(call) => {
                    // Whatever it is, the answer was complete before it.
                    let _ = ready!(call.poll_event(cx));
                    self.phase = Phase::Ended;
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
            self.phase = Phase::Ended;
            return Poll::Ready(Some(Err(Broken { error, usage })));
        }
    }

    /// The first token is there.
    fn begun(&self) {
        if let Phase::Running(running) = &self.phase {
            running.slot.begun();
        }
    }

    /// Takes note of what was produced; with the last event the worker is done.
    fn produced(&mut self, event: &Event) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        match event {
            Event::Delta(delta) => running.slot.produced(delta.token_count),
            Event::Finished(finished) => {
                if let Some(usage) = finished.usage {
                    running.slot.produced_in_all(usage.completion_tokens);
                }
                running.slot.ends(Outcome::Succeeded);
                if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Ended) {
                    self.phase = Phase::Finished(running.call);
                }
            }
            Event::Admitted(_) | Event::ChoiceFinished(_) | Event::Failed(_) => {}
        }
    }

    /// Tells the worker's slot, and the quarantine, how the request failed. Gives the error that counts.
    fn failed(&mut self, error: StreamError, usage: Option<Usage>) -> StreamError {
        let Phase::Running(running) = &mut self.phase else {
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
    pub(crate) fn broke_contract(&mut self) {
        if let Phase::Running(running) = &mut self.phase {
            running.slot.ends(Outcome::Failed);
        }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        // Without a runtime the process is about to end.
        if let (Phase::Running(running), Ok(runtime)) = (phase, Handle::try_current()) {
            let (tasks, first) = (running.tasks.clone(), self.first.take());
            tasks.spawn_on(running.give_up(first), &runtime);
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
