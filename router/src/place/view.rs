//! What is known of one worker: its last state, the prefixes it holds, and what was sent since.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use inferyard_proto::worker::v1::WorkerState;
use inferyard_proto::worker::v1::worker_state::Phase;
use tokio::time::Instant;

/// Bytes of a prompt for one token, before anything is known of the model.
const BYTES_PER_TOKEN: u64 = 4;
/// Bytes of a prefix block.
const BLOCK_BYTES: u64 = 1024;
/// Assumed of a worker that has not measured itself yet.
const PREFILL_PER_SECOND: f64 = 1000.0;
/// Assumed of a worker that has not measured itself yet.
const DECODE_PER_SECOND: f64 = 50.0;
/// Tokens that a running answer still has to produce, as far as anybody can know.
const REMAINING_ANSWER: f64 = 256.0;
/// A worker pushes a change within 20 ms; a state that arrives so long after a request was sent
/// has counted it. Until then the request is counted here, at worst twice.
const SEEN_AFTER: Duration = Duration::from_millis(50);

/// A router's knowledge of one worker.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// `None`: no live stream of states.
    state: Option<WorkerState>,
    held: HashSet<u64, BuildHasherDefault<AlreadyHashed>>,
    unseen: Vec<Unseen>,
    next_serial: u64,
}

/// A request that the worker's state may not count yet.
#[derive(Debug)]
struct Unseen {
    serial: u64,
    sent: Instant,
    prefill_tokens: u64,
    sequences: u32,
}

/// What a request asks of a worker.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) model: &'a str,
    pub(crate) prompt_bytes: u64,
    pub(crate) blocks: &'a [u64],
    pub(crate) sequences: u32,
}

/// What a worker would make of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Expected {
    /// Seconds to the first token.
    pub(crate) seconds: f64,
    /// Bytes of the prompt that the worker holds.
    pub(crate) covered_bytes: u64,
}

/// Whether a worker can take requests for a model, and why not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    Ready,
    Loading { progress: f32 },
    Draining,
    OtherModel { serves: String },
    Unreachable,
}

// === impl View ===

impl View {
    /// Takes a state of the worker's stream.
    pub(crate) fn update(&mut self, mut state: WorkerState, now: Instant) {
        if self
            .state
            .as_ref()
            .is_some_and(|old| old.boot_id != state.boot_id)
        {
            self.forget();
        }
        self.unseen
            .retain(|request| now.duration_since(request.sent) < SEEN_AFTER);
        if let Some(change) = state.prefixes.take() {
            if change.reset {
                self.held.clear();
            }
            self.held.extend(change.added);
            for block in change.removed {
                self.held.remove(&block);
            }
        }
        self.state = Some(state);
    }

    /// The stream of states ended: nothing is known until the next one begins.
    pub(crate) fn forget(&mut self) {
        self.state = None;
        self.held.clear();
        self.unseen.clear();
    }

    /// Whether requests for `model` can be placed.
    pub(crate) fn standing(&self, model: &str) -> Standing {
        let Some(state) = &self.state else {
            return Standing::Unreachable;
        };
        match state.phase() {
            Phase::Unspecified => Standing::Unreachable,
            Phase::Draining => Standing::Draining,
            _ if state.model != model => Standing::OtherModel {
                serves: state.model.clone(),
            },
            Phase::Loading => Standing::Loading {
                progress: state.load_progress,
            },
            Phase::Ready => Standing::Ready,
        }
    }

    /// The worker's life; 0: it has not spoken.
    pub(crate) fn boot_id(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.boot_id)
    }

    /// Tokens of prompt and answer together that one sequence may have, once the worker knows.
    pub(crate) fn context_length(&self) -> Option<u64> {
        let capacity = self.state.as_ref()?.capacity?;
        Some(u64::from(capacity.context_length)).filter(|length| *length > 0)
    }

    /// How long a request would wait here for its first token; `None`: it cannot be placed.
    pub(crate) fn expect(&self, work: &Work<'_>) -> Option<Expected> {
        let state = self.state.as_ref()?;
        if state.phase() != Phase::Ready || state.model != work.model {
            return None;
        }
        let held = |block: &&u64| self.held.contains(block);
        let covered_blocks = work.blocks.iter().take_while(held).count() as u64;
        let covered_bytes = covered_blocks * BLOCK_BYTES;
        let own = prefill_tokens(work, covered_bytes);
        let unseen: u64 = self
            .unseen
            .iter()
            .map(|request| request.prefill_tokens)
            .sum();
        let ahead = state.queued_prefill_tokens + unseen;
        let prefill = or_default(state.prefill_tokens_per_second, PREFILL_PER_SECOND);
        let seconds = tokens(ahead + own) / prefill + self.decode_pressure(work, unseen + own);
        Some(Expected {
            seconds,
            covered_bytes,
        })
    }

    /// Seconds that running answers cost: a step of decoding is shared with them, and where the
    /// batch or the KV cache is full, some of them must end first.
    fn decode_pressure(&self, work: &Work<'_>, new_tokens: u64) -> f64 {
        let Some(state) = &self.state else {
            return 0.0;
        };
        let step = 1.0 / or_default(state.decode_tokens_per_second, DECODE_PER_SECOND);
        let capacity = state.capacity.unwrap_or_default();
        let places = f64::from(capacity.max_running.max(1));
        let unseen: u32 = self.unseen.iter().map(|request| request.sequences).sum();
        let busy = f64::from(state.running + state.queued) + f64::from(unseen);
        let over = (busy + f64::from(work.sequences) - places).max(0.0);
        let used = state.kv_used_tokens.saturating_sub(state.kv_cached_tokens);
        let free = capacity.kv_total_tokens.saturating_sub(used);
        let cramped = capacity.kv_total_tokens > 0 && new_tokens > free;
        let answers_to_end = over / places + if cramped { 1.0 } else { 0.0 };
        step * (busy / places + answers_to_end * REMAINING_ANSWER)
    }

    /// Counts a request that is about to be sent; the number takes it back.
    pub(crate) fn sent(&mut self, work: &Work<'_>, expected: &Expected, now: Instant) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.unseen.push(Unseen {
            serial,
            sent: now,
            prefill_tokens: prefill_tokens(work, expected.covered_bytes),
            sequences: work.sequences,
        });
        serial
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, serial: u64) {
        self.unseen.retain(|request| request.serial != serial);
    }
}

fn prefill_tokens(work: &Work<'_>, covered_bytes: u64) -> u64 {
    work.prompt_bytes.saturating_sub(covered_bytes) / BYTES_PER_TOKEN
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

// === impl AlreadyHashed ===

/// Prefix blocks are hashes: hashing them again would only cost time.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
