//! A timing model of a GPU that serves a language model: continuous batching, chunked prefill and
//! a prefix cache, without a clock of its own.
//!
//! [`Gpu::begin_step`] decides what the next step computes and how long it takes; whoever drives the
//! model lets that time pass, on whatever clock, and [`Gpu::end_step`] tells what the step brought.
//! The same calls bring the same results: there is no chance in it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::kv::{Block, Cache, Found};

mod sequence;
mod settings;

use sequence::Sequence;

pub use settings::{Settings, SettingsError};

/// A timing model of one GPU.
///
/// Not modelled: answers in the prefix cache (a real engine keeps them too), preemption, and the
/// growing price of attention over long contexts.
pub struct Gpu {
    settings: Settings,
    cache: Cache,
    waiting: BTreeMap<QueueKey, Waiting>,
    waiting_tokens: u64,
    arrivals: u64,
    running: Vec<Sequence>,
    // The first queued job had no room when the cache was as it was then.
    blocked: Option<(QueueKey, u64)>,
    // Since the last report.
    admitted: Vec<(u64, u32)>,
    removed: Vec<u64>,
    // Which of the running prompts are to be computed, the most urgent first; kept for its memory.
    prefill: Vec<usize>,
}

/// One sequence to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name in reports. No two that wait or run may have the same.
    pub id: u64,
    /// Higher goes first, among equals the earlier one.
    pub priority: i32,
    /// The prompt's prefix blocks from its beginning on. Tokens after the last one are in no block
    /// and never cached; blocks that reach beyond the prompt's end are ignored.
    pub blocks: Vec<Block>,
    /// Tokens of the whole prompt. An empty one counts as one token.
    pub prompt_tokens: u32,
    /// Tokens of the answer. With 0 it finishes when its prompt is computed.
    pub answer_tokens: u32,
}

/// What a step brought. Whoever follows the cache applies `removed` before `added`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Jobs that began to run, and how many tokens of their prompts need not be computed.
    pub admitted: Vec<(u64, u32)>,
    /// Jobs whose answers have one more token; the first comes with the end of the prompt.
    pub produced: Vec<u64>,
    /// Jobs whose answers are complete.
    pub finished: Vec<u64>,
    /// Prefix blocks that are held from now on.
    pub added: Vec<u64>,
    /// Prefix blocks that are held no longer.
    pub removed: Vec<u64>,
}

/// A job needs more room than the whole cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tokens} tokens do not fit into a KV cache of {kv_tokens}")]
pub struct TooLarge {
    /// Tokens of prompt and answer.
    pub tokens: u64,
    /// Tokens of the cache.
    pub kv_tokens: u64,
}

/// The position of a queued job: sorts by priority, then by arrival.
type QueueKey = (Reverse<i32>, u64);

struct Waiting {
    job: Job,
    // Tokens of its prompt that were not cached when it was queued.
    uncached: u32,
}

// === impl Gpu ===

impl Gpu {
    /// An idle GPU with an empty cache.
    ///
    /// # Errors
    ///
    /// If the settings make no sense.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self {
            cache: Cache::new(settings.kv_tokens),
            settings,
            waiting: BTreeMap::new(),
            waiting_tokens: 0,
            arrivals: 0,
            running: Vec::new(),
            blocked: None,
            admitted: Vec::new(),
            removed: Vec::new(),
            prefill: Vec::new(),
        })
    }

    /// Queues a job.
    ///
    /// # Errors
    ///
    /// If it could never run.
    pub fn submit(&mut self, mut job: Job) -> Result<(), TooLarge> {
        job.make_whole();
        let tokens = u64::from(job.prompt_tokens) + u64::from(job.answer_tokens);
        let kv_tokens = self.settings.kv_tokens;
        if tokens > kv_tokens {
            return Err(TooLarge { tokens, kv_tokens });
        }
        let key = (Reverse(job.priority), self.arrivals);
        self.arrivals += 1;
        self.waiting_tokens += u64::from(job.prompt_tokens);
        let uncached = job.prompt_tokens - self.cache.find(&job.blocks).tokens;
        self.waiting.insert(key, Waiting { job, uncached });
        Ok(())
    }

    /// Whether the next step would begin with this job if it was queued now. A caller with a queue
    /// of their own keeps there what is not wanted yet.
    #[must_use]
    pub fn wants(&self, job: &Job) -> bool {
        if self.running.len() + self.waiting.len() >= self.settings.max_running {
            return false;
        }
        let after = (Reverse(job.priority), u64::MAX);
        let running = self.running.iter().filter(|other| other.key < after);
        let running: u64 = running.map(|other| u64::from(other.left())).sum();
        let waiting = self.waiting.range(..after);
        let waiting: u64 = waiting.map(|(_, other)| u64::from(other.uncached)).sum();
        if running + waiting >= u64::from(self.settings.batch_tokens) {
            return false;
        }
        let found = self.cache.find(&job.blocks);
        let promised = self.waiting.values().map(Waiting::private).sum::<u64>();
        self.cache.has_room(found, private(job, found) + promised)
    }

    /// A job is no longer wanted. What of its prompt is computed stays cached. False: it neither
    /// waits nor runs.
    pub fn cancel(&mut self, id: u64) -> bool {
        if let Some(at) = self.running.iter().position(|running| running.id == id) {
            // In order, so that a cancelled job does not change who comes first.
            self.running.remove(at).close(&mut self.cache);
            return true;
        }
        let mut waiting = self.waiting.iter();
        let waiting = waiting.find(|(_, waiting)| waiting.job.id == id);
        let Some(key) = waiting.map(|(key, _)| *key) else {
            return false;
        };
        self.take_waiting(key);
        true
    }

    /// The answer of a running job gets no more tokens until it goes on; it keeps its slot in the
    /// cache. From the next step on. False: it does not run.
    pub fn pause(&mut self, id: u64, paused: bool) -> bool {
        let running = self.running.iter_mut().find(|running| running.id == id);
        running.is_some_and(|running| {
            running.paused = paused;
            true
        })
    }

    /// Decides what the next step computes: one token for each running answer, and prompts in
    /// chunks, the most urgent first. Returns how long it takes; `end_step` is to be called then.
    /// None: there is nothing to compute.
    pub fn begin_step(&mut self) -> Option<Duration> {
        let mut answers = 0;
        for running in &mut self.running {
            running.plan();
            answers += u32::from(running.decodes);
        }
        let prefill = self.plan_prefill();
        if answers == 0 && prefill == 0 {
            return None;
        }
        Some(self.settings.decode_time(answers) + self.settings.prefill_time(prefill))
    }

    /// Jobs that the step which has begun is the first of, as [`Report::admitted`] will tell.
    #[must_use]
    pub fn admitted(&self) -> &[(u64, u32)] {
        &self.admitted
    }

    /// Tokens of prompts in the step that has begun.
    #[must_use]
    pub fn step_prefill_tokens(&self) -> u32 {
        self.running.iter().map(Sequence::chunk).sum()
    }

    /// Whether answers that have begun get their next token in the step that has begun.
    #[must_use]
    pub fn step_decodes(&self) -> bool {
        self.running.iter().any(|running| running.decodes)
    }

    /// The step is over: what it brought replaces what is in `report`.
    pub fn end_step(&mut self, report: &mut Report) {
        report.clear();
        report.admitted.append(&mut self.admitted);
        report.removed.append(&mut self.removed);
        let cache = &mut self.cache;
        self.running.retain_mut(|running| {
            let finished = running.end_step(cache, report);
            if finished {
                running.close(cache);
            }
            !finished
        });
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Running jobs, including paused ones.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Jobs that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Tokens of prompts that are still to be computed: of running ones what is left, of waiting
    /// ones all of it, since what will be cached when their turn comes is not known yet.
    #[must_use]
    pub fn queued_prefill_tokens(&self) -> u64 {
        let left: u64 = self.running.iter().map(|job| u64::from(job.left())).sum();
        left + self.waiting_tokens
    }

    /// Tokens of the KV cache that are held, or promised to running answers.
    #[must_use]
    pub fn kv_used(&self) -> u64 {
        self.cache.used()
    }

    /// Tokens in prefix blocks that no running job refers to: part of `kv_used`, and evicted when
    /// somebody needs the room.
    #[must_use]
    pub fn kv_cached(&self) -> u64 {
        self.cache.cached()
    }

    /// Gives the step's prefill to running and waiting prompts by urgency; how much was given.
    fn plan_prefill(&mut self) -> u32 {
        let mut order = std::mem::take(&mut self.prefill);
        order.clear();
        order.extend((0..self.running.len()).filter(|at| self.running[*at].left() > 0));
        order.sort_unstable_by_key(|at| self.running[*at].key);
        let mut begun = order.iter().copied().peekable();
        let mut room = self.settings.batch_tokens;
        while room > 0 {
            let next = begun.peek().map(|at| self.running[*at].key);
            let at = match self.admit_before(next) {
                Some(at) => at,
                None => match begun.next() {
                    Some(at) => at,
                    None => break,
                },
            };
            room -= self.running[at].plan_prefill(room);
        }
        self.prefill = order;
        self.settings.batch_tokens - room
    }

    /// Starts the first queued job if it is more urgent than `other` and there is room for it.
    fn admit_before(&mut self, other: Option<QueueKey>) -> Option<usize> {
        let (key, Waiting { job, .. }) = self.waiting.first_key_value()?;
        let key = *key;
        let full = self.running.len() >= self.settings.max_running;
        if full || other.is_some_and(|other| other < key) {
            return None;
        }
        if self.blocked == Some((key, self.cache.freed())) {
            return None;
        }
        let found = self.cache.find(&job.blocks);
        let private = private(job, found);
        let cache = &mut self.cache;
        if !cache.open(&job.blocks, found, private, &mut self.removed) {
            self.blocked = Some((key, cache.freed()));
            return None;
        }
        self.blocked = None;
        let sequence = Sequence::new(key, self.take_waiting(key), found, private);
        self.admitted.push((sequence.id, sequence.cached()));
        self.running.push(sequence);
        Some(self.running.len() - 1)
    }

    fn take_waiting(&mut self, key: QueueKey) -> Job {
        let waiting = self.waiting.remove(&key);
        let Waiting { job, .. } = waiting.expect("a key of the queue should have its job");
        self.waiting_tokens -= u64::from(job.prompt_tokens);
        job
    }
}

/// Tokens of the cache that a job needs beside what was found of its prompt.
fn private(job: &Job, found: Found) -> u64 {
    u64::from(job.prompt_tokens.saturating_sub(found.tokens)) + u64::from(job.answer_tokens)
}

// === impl Waiting ===

impl Waiting {
    fn private(&self) -> u64 {
        u64::from(self.uncached) + u64::from(self.job.answer_tokens)
    }
}

// === impl Job ===

impl Job {
    fn make_whole(&mut self) {
        self.prompt_tokens = self.prompt_tokens.max(1);
        let mut end = 0_u32;
        let whole = self.blocks.iter().take_while(|block| {
            end = end.saturating_add(block.tokens);
            end <= self.prompt_tokens
        });
        let whole = whole.count();
        self.blocks.truncate(whole);
    }
}

// === impl Report ===

impl Report {
    fn clear(&mut self) {
        self.admitted.clear();
        self.produced.clear();
        self.finished.clear();
        self.added.clear();
        self.removed.clear();
    }
}

#[cfg(test)]
mod tests;
