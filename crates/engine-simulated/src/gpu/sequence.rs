//! One running sequence of the simulated GPU: its prompt first, then its answer.

use super::{Block, Job, QueueKey, Report};
use crate::kv::{Cache, Found};

/// A sequence that runs.
pub(super) struct Sequence {
    /// The job's name.
    pub(super) id: u64,
    /// Its key in the queue.
    pub(super) key: QueueKey,
    /// Its answer is to wait.
    pub(super) paused: bool,
    /// The step that is computed brings its answer one token.
    pub(super) decodes: bool,
    blocks: Vec<Block>,
    // So many blocks of the cache it refers to, which end at this token.
    held: usize,
    held_end: u32,
    prompt_tokens: u32,
    cached: u32,
    computed: u32,
    // The step that is computed adds so many.
    chunk: u32,
    answer_left: u32,
    // Tokens of the cache that are its own.
    private: u64,
}

impl Sequence {
    /// A job begins to run, whose prompt begins with what was found and for which so many tokens of
    /// its own were promised. At least one token is always computed: what follows the prompt is not
    /// known otherwise.
    pub(super) fn new(key: QueueKey, job: Job, found: Found, private: u64) -> Self {
        let cached = found.tokens.min(job.prompt_tokens - 1);
        Self {
            id: job.id,
            key,
            paused: false,
            decodes: false,
            blocks: job.blocks,
            held: found.blocks,
            held_end: found.tokens,
            prompt_tokens: job.prompt_tokens,
            cached,
            computed: cached,
            chunk: 0,
            answer_left: job.answer_tokens,
            private,
        }
    }

    /// Tokens of the prompt that need not be computed.
    pub(super) fn cached(&self) -> u32 {
        self.cached
    }

    /// Tokens of the prompt that are still to be computed.
    pub(super) fn left(&self) -> u32 {
        self.prompt_tokens - self.computed
    }

    /// Tokens of the prompt in the step that is computed.
    pub(super) fn chunk(&self) -> u32 {
        self.chunk
    }

    /// A new step: whether the answer gets a token of it.
    pub(super) fn plan(&mut self) {
        self.chunk = 0;
        self.decodes = self.left() == 0 && !self.paused;
    }

    /// The prompt gets as much of this step as it can use; so many tokens.
    pub(super) fn plan_prefill(&mut self, room: u32) -> u32 {
        self.chunk = self.left().min(room);
        self.chunk
    }

    /// The step is over; whether the answer is complete.
    pub(super) fn end_step(&mut self, cache: &mut Cache, report: &mut Report) -> bool {
        if self.chunk > 0 {
            self.computed += std::mem::take(&mut self.chunk);
            self.hold_blocks(cache, &mut report.added);
            if self.left() > 0 {
                return false;
            }
            // The end of a prompt brings the first token of the answer.
        } else if !std::mem::take(&mut self.decodes) {
            return false;
        }
        if self.answer_left > 0 {
            self.answer_left -= 1;
            report.produced.push(self.id);
        }
        if self.answer_left == 0 {
            report.finished.push(self.id);
        }
        self.answer_left == 0
    }

    /// Gives everything back; the prompt's blocks stay cached.
    pub(super) fn close(&self, cache: &mut Cache) {
        cache.close(&self.blocks[..self.held], self.private);
    }

    fn hold_blocks(&mut self, cache: &mut Cache, added: &mut Vec<u64>) {
        while let Some(block) = self.blocks.get(self.held)
            && self.held_end + block.tokens <= self.computed
        {
            self.held += 1;
            self.held_end += block.tokens;
            self.private -= u64::from(block.tokens);
            if cache.hold(*block) {
                added.push(block.hash);
            }
        }
    }
}
