//! The load of the engine, reported to `state` whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use inferyard_engine::state::{Load, PrefixChange, State};
use parking_lot::{Mutex, MutexGuard};

use crate::engine_metrics::EngineMetrics;
use crate::prefix_estimate::{Prediction, PrefixCacheEstimate};

/// The weight of the newest request in an average.
const NEWEST: f32 = 0.1;
/// Bytes of a prompt per token, before the engine has counted a prompt.
const BYTES_PER_TOKEN: f32 = 4.0;
/// Shorter prompts measure the engine's scheduling more than its prefill speed.
const LEAST_PREFILL: u32 = 32;

/// Tracks the load of the engine.
pub(crate) struct LoadTracker {
    state: Arc<State>,
    numbers: Mutex<Numbers>,
}

struct Numbers {
    // Choices of the requests that were sent to the engine.
    sequences: usize,
    open: usize,
    // Prompt tokens of those requests whose answer has not begun.
    prefill_tokens: u64,
    metrics: EngineMetrics,
    estimate: PrefixCacheEstimate,
    prefill_rate: f32,
    decode_rate: f32,
    bytes_per_token: f32,
    // Tokens computed.
    worked: u64,
    // How often the engine crashed, and how many requests it had at the last crash.
    crashes: u64,
    crashed_with: usize,
}

/// The slot of a request that was sent to the engine; dropping it frees the slot.
pub(crate) struct Slot {
    load: Arc<LoadTracker>,
    choices: usize,
    // 0 once the answer has begun.
    prefill_tokens: u64,
    // The cached prefix of the prompt that was predicted before it was computed.
    prediction: Prediction,
    // How often the engine had crashed when the request was sent.
    crashes: u64,
    // Called when the slot is free again.
    freed: Box<dyn Fn() + Send + Sync>,
}

// === impl LoadTracker ===

impl LoadTracker {
    /// The load of an engine without requests.
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            numbers: Mutex::new(Numbers {
                sequences: 0,
                open: 0,
                prefill_tokens: 0,
                metrics: EngineMetrics::default(),
                estimate: PrefixCacheEstimate::new(),
                prefill_rate: 0.0,
                decode_rate: 0.0,
                bytes_per_token: BYTES_PER_TOKEN,
                worked: 0,
                crashes: 0,
                crashed_with: 0,
            }),
        }
    }

    /// How many sequences the engine runs or queues for this worker.
    pub(crate) fn sequences(&self) -> usize {
        self.lock().sequences
    }

    /// Estimates the tokens of a prompt from its length in bytes, by the average of earlier prompts.
    pub(crate) fn estimate(&self, bytes: usize) -> u32 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate of a number that bodies keep small"
        )]
        let tokens = (bytes as f32 / self.lock().bytes_per_token).ceil() as u32;
        tokens.max(1)
    }

    /// The engine has told how many tokens a prompt has.
    pub(crate) fn counted(&self, bytes: usize, tokens: u32) {
        if bytes > 0 && tokens > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a ratio")]
            let ratio = bytes as f32 / tokens as f32;
            average(&mut self.lock().bytes_per_token, ratio);
        }
    }

    /// A request is sent to the engine.
    pub(crate) fn start(
        self: &Arc<Self>,
        choices: usize,
        prefill_tokens: u64,
        freed: Box<dyn Fn() + Send + Sync>,
    ) -> Slot {
        let mut crashes = 0;
        self.change(|numbers, _| {
            numbers.sequences += choices;
            numbers.open += 1;
            numbers.prefill_tokens += prefill_tokens;
            crashes = numbers.crashes;
        });
        Slot {
            load: Arc::clone(self),
            choices,
            prefill_tokens,
            prediction: Prediction::default(),
            crashes,
            freed,
        }
    }

    /// The engine has told its metrics.
    pub(crate) fn metrics(&self, metrics: EngineMetrics) {
        self.change(|numbers, _| {
            numbers.metrics = metrics;
            numbers.estimate.fit(metrics.kv_total);
        });
    }

    /// The engine is gone, and its cache is lost.
    pub(crate) fn forget(&self) {
        self.change(|numbers, changes| {
            numbers.metrics = EngineMetrics::default();
            numbers.estimate.clear(changes);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Numbers, &mut Vec<PrefixChange>)) {
        let mut changes = Vec::new();
        let mut numbers = self.lock();
        change(&mut numbers, &mut changes);
        // Under the lock, so that an older load never comes after a newer one.
        self.state.set_load(numbers.load(), changes.into_iter());
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        // Only numbers are written under the lock.
        self.numbers.lock()
    }
}

// === impl Numbers ===

impl Numbers {
    fn load(&self) -> Load {
        // Our own numbers are current, the engine's are up to a second old: they only tell how many of our requests wait.
        let waiting = self.metrics.waiting.min(self.open);
        Load {
            running: self.sequences.saturating_sub(waiting),
            open: self.open,
            preempted: waiting,
            prefill_tokens: self.prefill_tokens,
            kv_used: self.metrics.kv_used,
            kv_cached: 0,
            prefill_rate: self.prefill_rate,
            decode_rate: self.decode_rate,
            worked: self.worked,
        }
    }
}

// === impl Slot ===

impl Slot {
    /// The first chunk came: the prompt is computed.
    pub(crate) fn begun(&mut self, blocks: &[u64], computed: u32, took: Duration) {
        let prefill_tokens = std::mem::take(&mut self.prefill_tokens);
        let prediction = &mut self.prediction;
        self.load.change(|numbers, changes| {
            numbers.prefill_tokens -= prefill_tokens;
            *prediction = numbers.estimate.of(blocks);
            numbers.estimate.use_all(blocks, changes);
            numbers.worked += u64::from(computed);
            if computed >= LEAST_PREFILL {
                average(&mut numbers.prefill_rate, per_second(computed, took));
            }
        });
    }

    /// The engine broke off this request. Returns whether it had no other request at that moment. All requests that a
    /// crash ends call this one after the other; only the first of them still sees the others.
    pub(crate) fn crashed_alone(&self) -> bool {
        let mut numbers = self.load.lock();
        if numbers.crashes == self.crashes {
            numbers.crashes += 1;
            numbers.crashed_with = numbers.open;
        }
        numbers.crashes == self.crashes + 1 && numbers.crashed_with == 1
    }

    /// The engine tells that `cached` tokens of the prompt were cached; the prompt has `blocks` blocks.
    pub(crate) fn reused(&self, blocks: usize, prompt_tokens: u32, cached: u32) {
        let blocks = blocks as u64 * u64::from(cached) / u64::from(prompt_tokens.max(1));
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        let prediction = &self.prediction;
        self.load
            .change(|numbers, changes| numbers.estimate.correct(prediction, blocks, changes));
    }

    /// Records that the engine produced this many tokens for each choice within `took` of the first chunk.
    pub(crate) fn produced(&self, tokens: u32, took: Duration) {
        let mut numbers = self.load.lock();
        numbers.worked += u64::from(tokens) * self.choices as u64;
        if tokens > 1 {
            average(&mut numbers.decode_rate, per_second(tokens - 1, took));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (choices, prefill_tokens) = (self.choices, self.prefill_tokens);
        self.load.change(|numbers, _| {
            numbers.sequences -= choices;
            numbers.open -= 1;
            numbers.prefill_tokens -= prefill_tokens;
        });
        (self.freed)();
    }
}

fn per_second(tokens: u32, took: Duration) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let tokens = tokens as f32;
    tokens / took.as_secs_f32().max(1e-3)
}

fn average(average: &mut f32, newest: f32) {
    if *average <= 0.0 {
        *average = newest;
    } else {
        *average += NEWEST * (newest - *average);
    }
}
