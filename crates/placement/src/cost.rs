//! The expected wait of a request on a worker, term by term.

use serde::{Deserialize, Serialize};

use crate::Work;
use crate::snapshot::{Load, REMAINING_ANSWER};

/// Prompt tokens per second, assumed until any worker reports a measured rate.
const PREFILL_PER_SECOND: f64 = 1000.0;
/// Tokens per second and sequence, assumed until any worker reports a measured rate.
const DECODE_PER_SECOND: f64 = 50.0;

/// Weights of the cost terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Weight of computing the uncached part of the prompt. Above 1, because later requests wait for this work too,
    /// and because it evicts other prefixes from the cache.
    pub prompt: f64,
    /// Weight of a worker's recent work in excess of the least loaded worker's: it fills caches evenly while no
    /// request waits.
    pub balance: f64,
}

/// The expected time to the first token on one worker, in seconds, split into its terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds until the prompts ahead of this one are computed.
    pub queue: f64,
    /// Seconds to compute the uncached part of the prompt.
    pub prompt: f64,
    /// Seconds that running answers add: shared decode steps, and answers that must end first where places or KV
    /// cells run out.
    pub decode: f64,
    /// Not a wait: seconds of prefill by which the worker's recent and running work exceeds that of the least loaded
    /// worker.
    pub balance: f64,
    /// Blocks of the prompt that the worker holds, or will hold once requests that were sent are computed.
    pub cached_blocks: usize,
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
    /// The cost on a worker that is `ahead_tokens` of work ahead of the least loaded worker.
    pub(crate) fn of(work: &Work, cached_blocks: usize, load: &Load, ahead_tokens: f64) -> Self {
        let own = work.uncached_tokens(cached_blocks);
        let prefill = or_default(load.prefill_rate, PREFILL_PER_SECOND);
        Self {
            queue: tokens(load.prefill_tokens) / prefill,
            prompt: tokens(own) / prefill,
            decode: decode(load, work.sequences, own),
            balance: ahead_tokens / prefill,
            cached_blocks,
        }
    }

    /// Expected seconds to the first token.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.queue + self.prompt + self.decode
    }

    /// The value that is compared; the lowest wins.
    #[must_use]
    pub fn weighed(&self, weights: &Weights) -> f64 {
        let prompt = weights.prompt * self.prompt;
        self.queue + prompt + self.decode + weights.balance * self.balance
    }
}

/// Seconds for the first decode step. Running answers share the step; where the batch or the KV cache is full, some
/// must end first.
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
