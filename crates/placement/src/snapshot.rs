//! What a router knows of one worker: its last state, its prefixes, and the requests sent since.

use std::time::Duration;

use inferyard_domain::InstanceId;

use crate::state::{Phase, State};
use crate::{Moment, Work};

mod prefix_index;
mod in_flight;
mod room;
mod unacknowledged;

use in_flight::InFlight;
use prefix_index::PrefixIndex;
use unacknowledged::Unacknowledged;

/// A worker pushes a change within 20 ms. A state that arrives this long after a request was sent includes that
/// request; until then the router adds it to the state itself, and counts it twice at worst.
const SEEN_AFTER: Duration = Duration::from_millis(50);

/// Tokens that a running answer is assumed to still produce.
pub(crate) const REMAINING_ANSWER: f64 = 256.0;

/// A router's knowledge of one worker.
#[derive(Debug, Default)]
pub struct WorkerSnapshot {
    /// `None`: no live stream of states.
    state: Option<State>,
    prefixes: PrefixIndex,
    unacknowledged: Unacknowledged,
    in_flight: InFlight,
    /// When the worker last refused a request for want of room; cleared by the next later state.
    refused: Option<Moment>,
}

/// Whether requests for a model can be placed on a worker, and why not.
#[derive(Debug, Clone, PartialEq)]
pub enum EndpointState {
    /// They can.
    Ready,
    /// They can, but the worker failed several in a row: it gets requests only if no other worker is available, and
    /// single probes.
    Ejected,
    /// They can, but the worker reports a failing engine: it gets requests only if no other worker is available.
    Unhealthy,
    /// It loads the model.
    Loading {
        /// Progress, 0 to 1.
        progress: f32,
    },
    /// It completes its running requests and takes no new ones.
    Draining,
    /// It serves another model.
    OtherModel {
        /// The model that it serves.
        serves: String,
    },
    /// It has sent no state.
    Unreachable,
}

/// A message of a worker is missing, so the known prefixes would be wrong from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("state {got} came after state {last}")]
pub struct Gap {
    /// The number of the previous message.
    pub last: u64,
    /// The number of this one.
    pub got: u64,
}

/// The load of a worker, including requests that its state does not count yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Prompt tokens to compute before those of a new request.
    pub(crate) prefill_tokens: u64,
    /// Answers that run or wait: the reported ones, plus all that were sent since.
    pub(crate) sequences: u64,
    /// Answers that run or wait, without those known to have ended since the state.
    pub(crate) busy: u64,
    /// Free KV cells; `None`: not reported.
    pub(crate) free_tokens: Option<u64>,
    /// All KV cells.
    pub(crate) all_tokens: u64,
    /// Answers that can run together; 0: not reported.
    pub(crate) places: u32,
    /// Requests that can wait in the worker for a place.
    pub(crate) beyond: u32,
    /// Seconds of prefill that waits, at the worker's rate; 0: no rate measured.
    pub(crate) backlog: f64,
    /// It refused a request since its last state.
    pub(crate) refused: bool,
    /// Prompt tokens per second; 0: not measured yet.
    pub(crate) prefill_rate: f32,
    /// Tokens per second and sequence; 0: not measured yet.
    pub(crate) decode_rate: f32,
    /// Tokens computed since the worker started.
    pub(crate) worked_tokens: u64,
}

// === impl WorkerSnapshot ===

impl WorkerSnapshot {
    /// Takes a state of the worker's stream.
    ///
    /// # Errors
    ///
    /// [`Gap`] if a message before it is missing; the snapshot is unchanged, and the stream must be opened again.
    pub fn update(&mut self, mut state: State, now: Moment) -> Result<(), Gap> {
        if let Some(old) = &self.state {
            if old.instance != state.instance {
                self.forget();
            } else if state.sequence != old.sequence + 1 && !state.prefixes.reset {
                let (last, got) = (old.sequence, state.sequence);
                return Err(Gap { last, got });
            }
        }
        let until = now.saturating_sub(SEEN_AFTER);
        self.unacknowledged.seen(until);
        self.in_flight
            .seen(u64::from(state.running) + u64::from(state.queued));
        if self.refused.is_some_and(|at| at <= until) {
            self.refused = None;
        }
        self.prefixes.change(std::mem::take(&mut state.prefixes));
        self.state = Some(state);
        Ok(())
    }

    /// The stream of states broke: discards all knowledge of the worker.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether requests for `model` can be placed, and why not.
    #[must_use]
    pub fn endpoint_state(&self, model: &str) -> EndpointState {
        let Some(state) = &self.state else {
            return EndpointState::Unreachable;
        };
        match state.phase {
            Phase::Unknown => EndpointState::Unreachable,
            Phase::Draining => EndpointState::Draining,
            _ if state.model != model => EndpointState::OtherModel {
                serves: state.model.clone(),
            },
            Phase::Loading(progress) => EndpointState::Loading { progress },
            Phase::Ready => EndpointState::Ready,
            Phase::Unhealthy => EndpointState::Unhealthy,
        }
    }

    /// Whether requests for `model` can be placed, without the reason.
    pub(crate) fn serves(&self, model: &str) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.phase == Phase::Ready && state.model == model)
    }

    /// Whether a request for `model` can be placed if no other worker is available.
    pub(crate) fn takes(&self, model: &str) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| {
            matches!(state.phase, Phase::Ready | Phase::Unhealthy) && state.model == model
        })
    }

    /// Whether this instance was not ready in its last state.
    pub(crate) fn was_away(&self, instance: Option<InstanceId>) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.instance == instance && state.phase != Phase::Ready)
    }

    /// The worker's instance; `None`: not reported.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        self.state.as_ref()?.instance
    }

    /// The longest sequence in tokens, prompt and answer together; `None`: not reported yet.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        let length = self.state.as_ref()?.context_length;
        Some(u64::from(length)).filter(|length| *length > 0)
    }

    /// Tokens that the chat template adds to a conversation; `None`: model not loaded yet; 0: not reported.
    pub(crate) fn template_tokens(&self) -> Option<u64> {
        let state = self.state.as_ref()?;
        (state.context_length > 0).then(|| state.template_tokens.into())
    }

    /// Blocks at the beginning of the prompt that the worker holds, or will hold once sent requests are computed.
    pub(crate) fn cached_blocks(&self, work: &Work) -> usize {
        let held = self.prefixes.covered(&work.blocks);
        held.max(self.unacknowledged.covered(&work.blocks))
    }

    /// The worker's load; the default while its state is unknown.
    pub(crate) fn load(&self) -> Load {
        let Some(state) = &self.state else {
            return Load::default();
        };
        let (unseen_tokens, unseen_sequences) = self.unacknowledged.unseen();
        let taken = state.kv_busy_tokens + unseen_tokens;
        let prefill_tokens = state.queued_prefill_tokens + unseen_tokens;
        let sequences = u64::from(state.running) + u64::from(state.queued) + unseen_sequences;
        Load {
            prefill_tokens,
            sequences,
            // A cancelled answer can end at the worker before it ends here, so the lower count is right.
            busy: self.in_flight.sequences().min(sequences),
            free_tokens: (state.kv_tokens > 0).then(|| state.kv_tokens.saturating_sub(taken)),
            all_tokens: state.kv_tokens,
            places: state.max_running,
            beyond: state.max_queued,
            backlog: backlog(prefill_tokens, state.prefill_rate),
            refused: self.refused.is_some(),
            prefill_rate: state.prefill_rate,
            decode_rate: state.decode_rate,
            worked_tokens: state.worked_tokens,
        }
    }

    /// Records that a request is about to be sent to the worker, which holds `cached_blocks` blocks of its prompt.
    pub(crate) fn send(&mut self, serial: u64, work: &Work, cached_blocks: usize, now: Moment) {
        self.unacknowledged.add(serial, work, cached_blocks, now);
        self.in_flight.add(serial, work.sequences);
    }

    /// Records that the first token arrived: the prompt is computed.
    pub(crate) fn begun(&mut self, serial: u64) {
        self.unacknowledged.begun(serial);
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, serial: u64) {
        self.unacknowledged.ended(serial);
        self.in_flight.ended(serial);
    }

    /// Records a refusal for want of room: it overrides the worker's state until a later state arrives.
    pub(crate) fn refused(&mut self, now: Moment) {
        self.refused = Some(now);
    }
}

// === impl Load ===

impl Load {
    /// Tokens that its answers are assumed to still produce.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn coming_tokens(&self) -> f64 {
        self.busy as f64 * REMAINING_ANSWER
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn backlog(tokens: u64, rate: f32) -> f64 {
    if rate > 0.0 {
        tokens as f64 / f64::from(rate)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests;
