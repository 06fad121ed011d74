//! What a request would wait for on a worker, term by term.

use serde::{Deserialize, Serialize};

use crate::Work;
use crate::view::{Load, REMAINING_ANSWER};

/// Assumed where no worker has measured itself yet.
const PREFILL_PER_SECOND: f64 = 1000.0;
/// Assumed where no worker has measured itself yet.
const DECODE_PER_SECOND: f64 = 50.0;

/// How much the terms count against each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Of computing what of the prompt is not held. Above 1, since whoever comes later waits for it too,
    /// and since it drives other prefixes out of the cache.
    pub prompt: f64,
    /// Of the work that a worker did lately beyond the least one: where nobody waits, caches fill evenly.
    pub balance: f64,
}

/// Seconds to the first token on one worker, and what they consist of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Until the prompts before it are computed.
    pub queue: f64,
    /// To compute what of its own prompt is not held.
    pub prompt: f64,
    /// That the running answers take, and that some of them need to end where places or cells run out.
    pub decode: f64,
    /// Not waited for: how far the worker is ahead of the others in work of the last minutes and of the answers
    /// that run.
    pub balance: f64,
    /// Blocks of the prompt that the worker holds or is about to.
    pub covered_blocks: usize,
}

// === impl Weights ===

impl Default for Weights {
    fn default() -> Self {
        Self {
            prompt: 12.0,
            balance: 0.04,
        }
    }
}

// === impl Cost ===

impl Cost {
    /// What a request would cost on a worker that is ahead of the others by so many tokens of work.
    pub(crate) fn of(work: &Work, covered_blocks: usize, load: &Load, ahead_tokens: f64) -> Self {
        let own = work.uncached_tokens(covered_blocks);
        let prefill = or_default(load.prefill_rate, PREFILL_PER_SECOND);
        Self {
            queue: tokens(load.prefill_tokens) / prefill,
            prompt: tokens(own) / prefill,
            decode: decode(load, work.sequences, own),
            balance: ahead_tokens / prefill,
            covered_blocks,
        }
    }

    /// Expected seconds to the first token.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.queue + self.prompt + self.decode
    }

    /// What is compared: the least one wins.
    #[must_use]
    pub fn weighed(&self, weights: &Weights) -> f64 {
        let prompt = weights.prompt * self.prompt;
        self.queue + prompt + self.decode + weights.balance * self.balance
    }
}

/// A step of decoding is shared with the running answers, and where the batch or the KV cache is full,
/// some of them must end first.
fn decode(load: &Load, sequences: u32, new_tokens: u64) -> f64 {
    let step = 1.0 / or_default(load.decode_rate, DECODE_PER_SECOND);
    let places = f64::from(load.places.max(1));
    let busy = tokens(load.sequences);
    let over = (busy + f64::from(sequences) - places).max(0.0);
    let cramped = load.free_tokens.is_some_and(|free| new_tokens > free);
    let answers_to_end = over / places + if cramped { 1.0 } else { 0.0 };
    step * (busy / places + answers_to_end * REMAINING_ANSWER)
}

fn or_default(measured: f32, default: f64) -> f64 {
    if measured.is_finite() && measured > 0.0 {
        f64::from(measured)
    } else {
        default
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn tokens(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
