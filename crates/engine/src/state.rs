//! The state of a worker: written by the engine and the queue, read by every `Watch` stream and by the metrics.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::event::Usage;
use last_minute::LastMinute;
pub use snapshot::{Capacity, Load, Outcome, Phase, Snapshot, Totals};

mod last_minute;
mod snapshot;

/// Changes of the prefix set that are kept for slow watchers. A watcher that is further behind gets the whole set again.
const CHANGES_KEPT: usize = 16_384;

/// The state of a worker.
#[derive(Debug)]
pub struct State {
    instance_id: u64,
    model: String,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
    tokenized_bytes: AtomicU64,
}

/// A change of the set of prefix blocks that the KV cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixChange {
    /// The cache holds this block now.
    Added(u64),
    /// The cache no longer holds this block.
    Removed(u64),
}

/// How far one watcher has read the changes of the prefixes.
#[derive(Debug, Default)]
pub struct Cursor(Option<u64>);

/// Changes of the prefix set since a watcher last read it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PrefixNews {
    /// The watcher must forget all blocks that it was told before.
    pub reset: bool,
    /// Blocks that the cache holds now.
    pub added: Vec<u64>,
    /// Blocks that the cache no longer holds.
    pub removed: Vec<u64>,
}

#[derive(Debug)]
struct Inner {
    snapshot: Snapshot,
    worked: LastMinute,
    // By how they ended.
    requests: HashMap<Outcome, u64>,
    held: HashSet<u64>,
    changes: VecDeque<PrefixChange>,
    // Number of the first change in `changes`.
    first_change: u64,
}

// === impl State ===

impl State {
    /// The state of a worker that begins to load its model.
    #[must_use]
    pub fn new(model: String, instance_id: u64) -> Self {
        let inner = Inner {
            snapshot: Snapshot {
                phase: Phase::Loading,
                load_progress: 0.0,
                note: String::new(),
                capacity: Capacity::default(),
                load: Load::default(),
                worked_last_minute: 0,
                queued: 0,
                queued_tokens: 0,
                totals: Totals::default(),
            },
            worked: LastMinute::new(Instant::now()),
            requests: HashMap::new(),
            held: HashSet::new(),
            changes: VecDeque::new(),
            first_change: 0,
        };
        Self {
            instance_id,
            model,
            inner: Mutex::new(inner),
            changed: watch::Sender::new(()),
            tokenized_bytes: AtomicU64::new(0),
        }
    }

    /// A random number drawn when the worker started.
    pub fn instance_id(&self) -> u64 {
        self.instance_id
    }

    /// The canonical name of the model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// A receiver that is notified of every change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Sets how much of the model is loaded, from 0 to 1.
    pub fn set_load_progress(&self, progress: f32) {
        self.change(|inner| inner.snapshot.load_progress = progress.clamp(0.0, 1.0));
    }

    /// The model is loaded, or the engine serves again.
    pub fn set_ready(&self, capacity: Capacity) {
        self.change(|inner| {
            inner.snapshot.capacity = capacity;
            inner.snapshot.load_progress = 1.0;
            inner.snapshot.note.clear();
            // A worker that was told to shut down while it loaded stays in that phase.
            if matches!(inner.snapshot.phase, Phase::Loading | Phase::Unhealthy) {
                inner.snapshot.phase = Phase::Ready;
            }
        });
    }

    /// Sets the remark for people: why the worker is not ready, or a warning. It never contains text of prompts or
    /// answers.
    pub fn set_note(&self, note: String) {
        if self.lock().snapshot.note != note {
            self.change(|inner| inner.snapshot.note = note);
        }
    }

    /// The engine is gone and may come back.
    pub fn set_lost(&self, note: String) {
        self.change(|inner| {
            inner.snapshot.load_progress = 0.0;
            inner.snapshot.note = note;
            if matches!(inner.snapshot.phase, Phase::Ready | Phase::Unhealthy) {
                inner.snapshot.phase = Phase::Loading;
            }
        });
    }

    /// The engine fails its requests, or produces no tokens.
    pub fn set_unhealthy(&self, note: String) {
        self.change(|inner| {
            inner.snapshot.note = note;
            if inner.snapshot.phase == Phase::Ready {
                inner.snapshot.phase = Phase::Unhealthy;
            }
        });
    }

    /// Whether the worker is shutting down.
    pub fn is_draining(&self) -> bool {
        self.lock().snapshot.phase == Phase::Draining
    }

    /// The worker is shutting down.
    pub fn set_draining(&self) {
        self.change(|inner| inner.snapshot.phase = Phase::Draining);
    }

    /// Sets the number of queued requests, and of their prompt tokens.
    pub fn set_queue(&self, queued: usize, tokens: u64) {
        self.change(|inner| {
            inner.snapshot.queued = queued;
            inner.snapshot.queued_tokens = tokens;
        });
    }

    /// Sets the load after a step of the engine, and applies changes of the prefix set.
    pub fn set_load(&self, load: Load, prefixes: impl Iterator<Item = PrefixChange>) {
        let mut inner = self.lock();
        let mut changed = inner.snapshot.load != load;
        let worked = load.worked.saturating_sub(inner.snapshot.load.worked);
        if worked > 0 {
            inner.worked.add(worked, Instant::now());
        }
        inner.snapshot.load = load;
        for change in prefixes {
            changed = true;
            inner.apply(change);
        }
        drop(inner);
        if changed {
            self.changed.send_replace(());
        }
    }

    /// Counts a request that has ended, and its tokens.
    pub fn count(&self, outcome: Outcome, usage: Usage) {
        let mut inner = self.lock();
        *inner.requests.entry(outcome).or_default() += 1;
        let totals = &mut inner.snapshot.totals;
        totals.prompt += u64::from(usage.prompt_tokens);
        totals.cached += u64::from(usage.cached_tokens);
        totals.completion += u64::from(usage.completion_tokens);
        if outcome == Outcome::Disconnected {
            totals.dropped_prompt += u64::from(usage.prompt_tokens);
            totals.dropped_completion += u64::from(usage.completion_tokens);
        }
    }

    /// Counts bytes of a prompt that are given to the tokenizer.
    pub fn tokenizes(&self, bytes: usize) {
        self.tokenized_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of prompts that were given to the tokenizer since the start.
    pub fn tokenized_bytes(&self) -> u64 {
        self.tokenized_bytes.load(Ordering::Relaxed)
    }

    /// A copy of the current state.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot()
    }

    /// How many requests ended in each way.
    pub fn ended(&self) -> HashMap<Outcome, u64> {
        self.lock().requests.clone()
    }

    /// A copy of the current state, and the changes of the prefix set since this watcher last called.
    pub fn observe(&self, cursor: &mut Cursor) -> (Snapshot, PrefixNews) {
        let mut inner = self.lock();
        let news = inner.news(cursor.0);
        cursor.0 = Some(inner.next_change());
        (inner.snapshot(), news)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Only numbers are written under the lock: a panic elsewhere leaves nothing half done.
        self.inner.lock()
    }
}

// === impl Inner ===

impl Inner {
    fn snapshot(&mut self) -> Snapshot {
        self.snapshot.worked_last_minute = self.worked.sum(Instant::now());
        self.snapshot.clone()
    }

    fn apply(&mut self, change: PrefixChange) {
        match change {
            PrefixChange::Added(block) => self.held.insert(block),
            PrefixChange::Removed(block) => self.held.remove(&block),
        };
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
            self.first_change += 1;
        }
        self.changes.push_back(change);
    }

    fn next_change(&self) -> u64 {
        self.first_change + self.changes.len() as u64
    }

    fn news(&self, seen: Option<u64>) -> PrefixNews {
        let Some(seen) = seen.filter(|seen| *seen >= self.first_change) else {
            let added = self.held.iter().copied().collect();
            return PrefixNews {
                reset: true,
                added,
                removed: Vec::new(),
            };
        };
        let unseen = usize::try_from(seen - self.first_change)
            .expect("a cursor should be within the kept changes");
        // Only the last change of a block counts.
        let mut last = HashMap::new();
        for change in self.changes.range(unseen..) {
            match *change {
                PrefixChange::Added(block) => last.insert(block, true),
                PrefixChange::Removed(block) => last.insert(block, false),
            };
        }
        let mut news = PrefixNews::default();
        for (block, held) in last {
            if held {
                news.added.push(block);
            } else {
                news.removed.push(block);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests;
