//! What the engine is busy with, told to `state` whenever it changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inferyard_engine::state::{Load, PrefixChange, State};

use crate::engine_metrics::Figures;
use crate::prefix_estimate::{Held, Thought};

/// The weight of the newest request in an average.
const NEWEST: f32 = 0.1;
/// Bytes of a prompt for one token, before an engine has counted one.
const BYTES_PER_TOKEN: f32 = 4.0;
/// Shorter prompts say more about the engine's turns than about its speed.
const LEAST_PREFILL: u32 = 32;

/// What the engine is busy with.
pub(crate) struct Busy {
    state: Arc<State>,
    numbers: Mutex<Numbers>,
}

struct Numbers {
    // Answers of the requests that the engine has.
    sequences: usize,
    open: usize,
    // Prompt tokens of those of them that have not begun.
    prefill_tokens: u64,
    figures: Figures,
    held: Held,
    prefill_rate: f32,
    decode_rate: f32,
    bytes_per_token: f32,
    // Tokens computed.
    worked: u64,
    // How often the engine broke off, and how many requests it had when it last did.
    crashes: u64,
    crashed_with: usize,
}

/// A request that the engine has; it gives its place back when it is dropped.
pub(crate) struct Slot {
    busy: Arc<Busy>,
    choices: usize,
    // Until it has begun.
    prefill_tokens: u64,
    // What was thought to be held of its prompt before it was computed.
    thought: Thought,
    // How often the engine had broken off when the request was sent.
    crashes: u64,
    // Tells that there is a place again.
    freed: Box<dyn Fn() + Send + Sync>,
}

// === impl Busy ===

impl Busy {
    /// Nothing to do yet.
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            numbers: Mutex::new(Numbers {
                sequences: 0,
                open: 0,
                prefill_tokens: 0,
                figures: Figures::default(),
                held: Held::new(),
                prefill_rate: 0.0,
                decode_rate: 0.0,
                bytes_per_token: BYTES_PER_TOKEN,
                worked: 0,
                crashes: 0,
                crashed_with: 0,
            }),
        }
    }

    /// How many answers the engine has.
    pub(crate) fn sequences(&self) -> usize {
        self.lock().sequences
    }

    /// How many tokens a prompt of so many bytes has, going by the ones before it.
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

    /// The engine has counted a prompt.
    pub(crate) fn counted(&self, bytes: usize, tokens: u32) {
        if bytes > 0 && tokens > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a ratio")]
            let ratio = bytes as f32 / tokens as f32;
            average(&mut self.lock().bytes_per_token, ratio);
        }
    }

    /// A request goes to the engine.
    pub(crate) fn place(
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
            busy: Arc::clone(self),
            choices,
            prefill_tokens,
            thought: Thought::default(),
            crashes,
            freed,
        }
    }

    /// The engine has told its figures.
    pub(crate) fn figures(&self, figures: Figures) {
        self.change(|numbers, _| {
            numbers.figures = figures;
            numbers.held.fit(figures.kv_total);
        });
    }

    /// The engine is gone, and its cache with it.
    pub(crate) fn forget(&self) {
        self.change(|numbers, changes| {
            numbers.figures = Figures::default();
            numbers.held.clear(changes);
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
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Numbers ===

impl Numbers {
    fn load(&self) -> Load {
        // What we know is of this moment, the engine's figure up to a second old: it only tells how
        // many of ours it has not begun with.
        let waiting = self.figures.waiting.min(self.open);
        Load {
            running: self.sequences.saturating_sub(waiting),
            open: self.open,
            preempted: waiting,
            prefill_tokens: self.prefill_tokens,
            kv_used: self.figures.kv_used,
            kv_cached: 0,
            prefill_rate: self.prefill_rate,
            decode_rate: self.decode_rate,
            worked: self.worked,
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Its first chunk came: the prompt is computed.
    pub(crate) fn begun(&mut self, blocks: &[u64], computed: u32, took: Duration) {
        let prefill_tokens = std::mem::take(&mut self.prefill_tokens);
        let thought = &mut self.thought;
        self.busy.change(|numbers, changes| {
            numbers.prefill_tokens -= prefill_tokens;
            *thought = numbers.held.of(blocks);
            numbers.held.use_all(blocks, changes);
            numbers.worked += u64::from(computed);
            if computed >= LEAST_PREFILL {
                average(&mut numbers.prefill_rate, per_second(computed, took));
            }
        });
    }

    /// The engine broke off this request. Whether it had no other at that moment: all requests that a crash
    /// ends come here one after the other, and only the first of them can count the others.
    pub(crate) fn crashed_alone(&self) -> bool {
        let mut numbers = self.busy.lock();
        if numbers.crashes == self.crashes {
            numbers.crashes += 1;
            numbers.crashed_with = numbers.open;
        }
        numbers.crashes == self.crashes + 1 && numbers.crashed_with == 1
    }

    /// The engine had so many tokens of the prompt, which was cut into so many blocks.
    pub(crate) fn had(&self, blocks: usize, prompt_tokens: u32, had: u32) {
        let blocks = blocks as u64 * u64::from(had) / u64::from(prompt_tokens.max(1));
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        let thought = &self.thought;
        self.busy
            .change(|numbers, changes| numbers.held.learn(thought, blocks, changes));
    }

    /// It has produced so many tokens for each of its answers since it began.
    pub(crate) fn produced(&self, tokens: u32, took: Duration) {
        let mut numbers = self.busy.lock();
        numbers.worked += u64::from(tokens) * self.choices as u64;
        if tokens > 1 {
            average(&mut numbers.decode_rate, per_second(tokens - 1, took));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (choices, prefill_tokens) = (self.choices, self.prefill_tokens);
        self.busy.change(|numbers, _| {
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
