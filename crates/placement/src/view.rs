//! What is known of one worker: its last state, the prefixes it holds, and what was sent since.

use std::time::Duration;

use crate::state::{Phase, State};
use crate::{Moment, Work};

mod held;
mod own;
mod room;
mod sent;

use held::Held;
use own::Own;
use sent::Sent;

/// A worker pushes a change within 20 ms; a state that arrives so long after a request was sent
/// has counted it. Until then the request is counted here, at worst twice.
const SEEN_AFTER: Duration = Duration::from_millis(50);

/// Tokens that a running answer still has to produce, as far as anybody can know.
pub(crate) const REMAINING_ANSWER: f64 = 256.0;

/// A router's knowledge of one worker.
#[derive(Debug, Default)]
pub struct View {
    /// `None`: no live stream of states.
    state: Option<State>,
    held: Held,
    sent: Sent,
    own: Own,
    /// It refused a request for want of room, and has not spoken for itself since.
    refused: Option<Moment>,
}

/// Whether a worker can take requests for a model, and why not.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It can.
    Ready,
    /// It can, and failed requests in a row: it gets them only where no other worker takes them, and one
    /// now and then to prove itself.
    Ejected,
    /// It can, and says that its engine fails them: it gets them only where no other worker takes them.
    Unhealthy,
    /// It reads the model.
    Loading {
        /// How far, 0 to 1.
        progress: f32,
    },
    /// It finishes what runs.
    Draining,
    /// It serves something else.
    OtherModel {
        /// What.
        serves: String,
    },
    /// It has not spoken.
    Unreachable,
}

/// A message of a worker is missing: what is known of its prefixes would be wrong from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("state {got} came after state {last}")]
pub struct Gap {
    /// The number of the message before.
    pub last: u64,
    /// The number of this one.
    pub got: u64,
}

/// The load of a worker, with what it cannot have counted yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Prompt tokens that are computed before those of a new request.
    pub(crate) prefill_tokens: u64,
    /// Answers that run or wait: what it said, and all that was sent since.
    pub(crate) sequences: u64,
    /// Answers that run or wait, as close as can be known.
    pub(crate) busy: u64,
    /// KV cells that can be had; `None`: it does not say.
    pub(crate) free_tokens: Option<u64>,
    /// All KV cells.
    pub(crate) all_tokens: u64,
    /// Answers that can run together; 0: it does not say.
    pub(crate) places: u32,
    /// Requests that can wait for a place in it.
    pub(crate) beyond: u32,
    /// Seconds of prompts that wait, by its own rate; 0: it has measured none.
    pub(crate) backlog: f64,
    /// It refused a request just now.
    pub(crate) refused: bool,
    /// Prompt tokens per second; 0: not measured yet.
    pub(crate) prefill_rate: f32,
    /// Tokens per second and sequence; 0: not measured yet.
    pub(crate) decode_rate: f32,
    /// Tokens computed since its start.
    pub(crate) worked_tokens: u64,
}

// === impl View ===

impl View {
    /// Takes a state of the worker's stream.
    ///
    /// # Errors
    ///
    /// A message before it is missing; nothing was taken, and the stream must be opened anew.
    pub fn update(&mut self, mut state: State, now: Moment) -> Result<(), Gap> {
        if let Some(old) = &self.state {
            if old.boot_id != state.boot_id {
                self.forget();
            } else if state.sequence != old.sequence + 1 && !state.prefixes.reset {
                let (last, got) = (old.sequence, state.sequence);
                return Err(Gap { last, got });
            }
        }
        let until = now.saturating_sub(SEEN_AFTER);
        self.sent.seen(until);
        self.own
            .seen(u64::from(state.running) + u64::from(state.queued));
        if self.refused.is_some_and(|at| at <= until) {
            self.refused = None;
        }
        self.held.change(std::mem::take(&mut state.prefixes));
        self.state = Some(state);
        Ok(())
    }

    /// The stream of states ended: nothing is known until the next one begins.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether requests for `model` can be placed.
    #[must_use]
    pub fn standing(&self, model: &str) -> Standing {
        let Some(state) = &self.state else {
            return Standing::Unreachable;
        };
        match state.phase {
            Phase::Unknown => Standing::Unreachable,
            Phase::Draining => Standing::Draining,
            _ if state.model != model => Standing::OtherModel {
                serves: state.model.clone(),
            },
            Phase::Loading(progress) => Standing::Loading { progress },
            Phase::Ready => Standing::Ready,
            Phase::Unhealthy => Standing::Unhealthy,
        }
    }

    /// Whether requests for `model` can be placed, without the reason.
    pub(crate) fn serves(&self, model: &str) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.phase == Phase::Ready && state.model == model)
    }

    /// Whether a request for `model` can be placed where no other worker takes it.
    pub(crate) fn takes(&self, model: &str) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| {
            matches!(state.phase, Phase::Ready | Phase::Unhealthy) && state.model == model
        })
    }

    /// Whether it said in this life of it that it does not serve.
    pub(crate) fn was_away(&self, boot_id: u64) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.boot_id == boot_id && state.phase != Phase::Ready)
    }

    /// The worker's life; 0: it has not spoken.
    #[must_use]
    pub fn boot_id(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.boot_id)
    }

    /// Tokens of prompt and answer together that one sequence may have, once the worker knows.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        let length = self.state.as_ref()?.context_length;
        Some(u64::from(length)).filter(|length| *length > 0)
    }

    /// Tokens that the chat template adds to a conversation, once the worker has loaded it; 0: it does not tell.
    pub(crate) fn template_tokens(&self) -> Option<u64> {
        let state = self.state.as_ref()?;
        (state.context_length > 0).then(|| state.template_tokens.into())
    }

    /// Blocks of the prompt, from its beginning, that the worker holds or is about to.
    pub(crate) fn covered_blocks(&self, work: &Work) -> usize {
        let held = self.held.covered(&work.blocks);
        held.max(self.sent.covered(&work.blocks))
    }

    /// What it is busy with.
    pub(crate) fn load(&self) -> Load {
        let Some(state) = &self.state else {
            return Load::default();
        };
        let (unseen_tokens, unseen_sequences) = self.sent.unseen();
        let taken = state.kv_busy_tokens + unseen_tokens;
        let prefill_tokens = state.queued_prefill_tokens + unseen_tokens;
        let sequences = u64::from(state.running) + u64::from(state.queued) + unseen_sequences;
        Load {
            prefill_tokens,
            sequences,
            // Answers that nobody reads are over at the worker before they are over here.
            busy: self.own.sequences().min(sequences),
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

    /// A request is about to be sent, of whose prompt so many blocks are held.
    pub(crate) fn send(&mut self, serial: u64, work: &Work, covered_blocks: usize, now: Moment) {
        self.sent.add(serial, work, covered_blocks, now);
        self.own.add(serial, work.sequences);
    }

    /// The first token of a request is there: its prompt is computed.
    pub(crate) fn begun(&mut self, serial: u64) {
        self.sent.begun(serial);
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, serial: u64) {
        self.sent.ended(serial);
        self.own.ended(serial);
    }

    /// It had no room for a request, whatever it says of itself: so it has none until it says so anew.
    pub(crate) fn refused(&mut self, now: Moment) {
        self.refused = Some(now);
    }
}

// === impl Load ===

impl Load {
    /// Tokens that its answers still have to produce, as far as anybody can know.
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
