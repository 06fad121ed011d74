//! The slots of the running batch: sequences are admitted, preempted and scheduled again.

use std::sync::Arc;

use inferyard_engine::event::{Delta, FinishReason};
use inferyard_engine::reply::Reply;
use inferyard_engine::requests::{RequestId, Requests};

use crate::choice::Choice;
use crate::job::{Job, Prepared};
use crate::kv::{Block, KvAllocator, PrefixMatch, SequenceId, Token};

use super::{Engine, number};

/// What a request shares with other requests.
pub(super) struct Prefix {
    salt: Arc<str>,
    blocks: Arc<[Block]>,
}

/// One answer in the running batch.
pub(super) struct Sequence {
    pub(super) slot: SequenceId,
    pub(super) computed: usize,
    pub(super) answer: Preempted,
}

/// One answer without cells in the cache: preempted, or not scheduled yet.
pub(super) struct Preempted {
    pub(super) request: RequestId,
    // The prompt and what was produced.
    pub(super) tokens: Vec<Token>,
    pub(super) choice: Choice,
    // Choices that begin where the prompt ends.
    pub(super) forks: Vec<Choice>,
}

// === impl Engine ===

impl Engine<'_> {
    /// Starts queued requests while there are free slots and cells.
    pub(super) fn admit(&mut self) {
        loop {
            // Preempted answers that can go on come before new requests.
            let free = if self.next_preempted().is_some() {
                0
            } else {
                self.free_slots()
            };
            let job = self.queue.take(free, |job| {
                let prepared = &job.prepared;
                prepared.choices <= free && self.fits(&prepared.salt, &prepared.tokens)
            });
            let Some(job) = job else { return };
            self.start(job);
        }
    }

    fn start(&mut self, job: Job) {
        let Job { prepared, reply } = job;
        let computes = prepared.max_tokens > 0;
        if computes && prepared.sampling.seed.is_some() && self.is_idle() {
            self.empty_cache();
        }
        let held = self.find(&prepared.salt, &prepared.tokens);
        let cached = if computes { held.length } else { 0 };
        let request = open(&mut self.requests, &prepared, reply, cached);
        if !computes {
            // Nothing but the prompt itself was asked for.
            self.finish(request, 0..number(prepared.choices));
            return self.requests.settle();
        }
        let tokens = &prepared.tokens;
        let answer = |choice, forks| Preempted {
            request,
            tokens: tokens.clone(),
            choice,
            forks,
        };
        let mut choices = (0..prepared.choices).map(|index| Choice::new(number(index), &prepared));
        if self.model.limits.shares_prefixes {
            let Some(first) = choices.next() else { return };
            self.schedule(answer(first, choices.collect()));
        } else {
            choices.for_each(|choice| self.schedule(answer(choice, Vec::new())));
        }
    }

    /// Puts an answer into the running batch. What the cache holds of it is shared, not computed.
    fn schedule(&mut self, answer: Preempted) {
        let Some(running) = self.requests.get(answer.request) else {
            return;
        };
        let Prefix { salt, blocks } = &running.own;
        let (salt, blocks) = (Arc::clone(salt), Arc::clone(blocks));
        let held = self.find(&salt, &answer.tokens);
        let slot = self.allocator.open(salt, blocks, held);
        self.sequences.push(Sequence {
            slot,
            computed: held.length,
            answer,
        });
    }

    /// Schedules preempted answers again, oldest first.
    pub(super) fn reschedule(&mut self) {
        while let Some(next) = self.next_preempted() {
            let answer = &self.preempted[next];
            let Some(running) = self.requests.get(answer.request) else {
                return;
            };
            let salt = &running.own.salt;
            if 1 + answer.forks.len() > self.free_slots() || !self.fits(salt, &answer.tokens) {
                return;
            }
            if let Some(answer) = self.preempted.remove(next) {
                self.schedule(answer);
            }
        }
    }

    /// The oldest preempted answer that is not paused.
    fn next_preempted(&self) -> Option<usize> {
        self.preempted
            .iter()
            .position(|answer| !self.requests.is_paused(answer.request))
    }

    /// Preempts one answer, so that its cells are free for the others: a paused one, or else the youngest.
    pub(super) fn preempt(&mut self) {
        let least = |(_, sequence): &(usize, &Sequence)| {
            let request = sequence.answer.request;
            (self.requests.is_paused(request), request)
        };
        let Some((index, _)) = self.sequences.iter().enumerate().max_by_key(least) else {
            return;
        };
        let mut sequence = self.sequences.remove(index);
        let alone = self.sequences.is_empty();
        self.release(sequence.slot);
        if alone {
            // No other answer holds cells: the answer itself fills the cache.
            let delta = sequence.answer.choice.cut();
            let (request, index) = (sequence.answer.request, sequence.answer.choice.index);
            if let Some(running) = self.requests.get_mut(request) {
                running.produced(delta);
            }
            let forks = sequence.answer.forks.iter().map(|fork| fork.index);
            self.finish(request, std::iter::once(index).chain(forks));
            self.requests.settle();
        } else {
            self.preempted.push_front(sequence.answer);
        }
    }

    /// Ends choices where they are.
    fn finish(&mut self, request: RequestId, choices: impl IntoIterator<Item = u32>) {
        if let Some(running) = self.requests.get_mut(request) {
            for choice in choices {
                running.finished(choice, FinishReason::Length);
            }
        }
    }

    /// Frees the slots of answers whose request has ended.
    pub(super) fn drop_orphans(&mut self) {
        let requests = &self.requests;
        self.preempted
            .retain(|answer| requests.contains(answer.request));
        let is_orphan = |sequence: &Sequence| !requests.contains(sequence.answer.request);
        let orphans: Vec<SequenceId> = self
            .sequences
            .extract_if(.., |s| is_orphan(s))
            .map(|s| s.slot)
            .collect();
        for slot in orphans {
            self.release(slot);
        }
    }

    /// The sequence no longer runs. Its cells stay cached if other sequences can share them.
    pub(super) fn release(&mut self, slot: SequenceId) {
        if self.model.limits.shares_prefixes {
            self.allocator.retain(slot);
        } else {
            self.allocator.close(slot);
        }
    }

    /// The cached prefix of a prompt.
    fn find(&self, salt: &str, tokens: &[Token]) -> PrefixMatch {
        if self.model.limits.shares_prefixes {
            self.allocator.find(salt, tokens)
        } else {
            PrefixMatch::default()
        }
    }

    /// Whether there are cells for the whole prompt, beside those that running prompts will still take.
    fn fits(&self, salt: &str, tokens: &[Token]) -> bool {
        let promised: usize = self.sequences.iter().map(Sequence::remaining).sum();
        let needed = KvAllocator::needed(tokens.len(), self.find(salt, tokens));
        needed + promised <= self.allocator.available()
    }

    pub(super) fn running(&self) -> usize {
        self.sequences
            .iter()
            .map(|sequence| 1 + sequence.answer.forks.len())
            .sum()
    }

    /// Gives the whole cache to an answer that must come out as it did before: where its tokens lie
    /// in the cache, and in which batches they are computed, decides how its sums are rounded.
    fn empty_cache(&mut self) {
        // llama.cpp takes the lowest free cells first, so that an empty cache is like a new one ...
        self.allocator.evict_cached();
        if self.model.limits.window.is_some() {
            // ... unless it has a window: then it goes on where it was.
            self.context.clear_kv_cache();
        }
    }

    /// No answer is being computed, or waits to go on.
    fn is_idle(&self) -> bool {
        self.sequences.is_empty() && self.preempted.is_empty()
    }

    fn free_slots(&self) -> usize {
        self.model.limits.max_running.saturating_sub(self.running())
    }
}

/// Adds a request; its client is told how much of the prompt was cached.
fn open(
    requests: &mut Requests<Prefix>,
    prepared: &Prepared,
    reply: Reply,
    cached: usize,
) -> RequestId {
    let own = Prefix {
        salt: Arc::clone(&prepared.salt),
        blocks: Arc::clone(&prepared.blocks),
    };
    let request = requests.open(reply, prepared.deadline, prepared.choices, own);
    if let Some(running) = requests.get_mut(request) {
        running.admitted(number(prepared.tokens.len()), number(cached));
        let echo = prepared.echo.as_ref();
        for (choice, content) in echo.into_iter().cycle().take(prepared.choices).enumerate() {
            running.produced(Delta {
                choice: number(choice),
                content: content.clone(),
                ..Delta::default()
            });
        }
    }
    request
}

// === impl Sequence ===

impl Sequence {
    /// Tokens to compute before the next one can be chosen.
    pub(super) fn remaining(&self) -> usize {
        self.answer.tokens.len() - self.computed
    }

    /// Another answer to the same prompt, which is computed.
    pub(super) fn fork(&self, choice: Choice, allocator: &mut KvAllocator) -> Self {
        let tokens = self.answer.tokens.clone();
        let request = self.answer.request;
        Self {
            slot: allocator.fork(self.slot),
            computed: self.computed,
            answer: Preempted {
                request,
                tokens,
                choice,
                forks: Vec::new(),
            },
        }
    }
}
