//! The allocator of the KV cache: which sequence holds which tokens in which cells.
//!
//! It only decides. Every call adds `Action`s, which must be applied to the real cache, in order, before the next batch
//! is computed. Cells are counted exactly: the allocator gives each computed token a cell number, and sequences that
//! share a prefix share its cells.
//!
//! A sequence is running or cached. A cached one is retained for prompts that begin with it, until its cells are needed.

use std::collections::HashMap;
use std::sync::Arc;

use inferyard_engine::state::PrefixChange;

mod prefix_match;
mod sequence;

pub(crate) use prefix_match::PrefixMatch;
use sequence::{Sequence, common_length};

/// A token of the model's vocabulary.
pub(crate) type Token = i32;

/// The number of a sequence in the cache.
pub(crate) type SequenceId = usize;

/// A block of the router's prefix chain, and how many tokens of the prompt it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The router's hash of the block.
    pub(crate) hash: u64,
    /// The cache holds it once it holds this many tokens of the prompt.
    pub(crate) end: usize,
}

/// What must be done to the real cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The first `length` cells of one sequence also belong to the other.
    Share {
        /// The sequence that holds them.
        from: SequenceId,
        /// The sequence that shares them.
        to: SequenceId,
        /// The number of cells.
        length: usize,
    },
    /// The sequence no longer holds any cell.
    Clear(SequenceId),
}

/// Assigns the cells of the KV cache to sequences.
pub(crate) struct KvAllocator {
    cells: Vec<Cell>,
    free: Vec<u32>,
    // The most cells that only cached sequences may hold, apart from the newest of them.
    max_cached: usize,
    // Cells that at least one running sequence holds.
    running_cells: usize,
    sequences: Vec<Option<Sequence>>,
    // Tokens that a layer with a sliding window sees; None: no layer has one, or its length is not known.
    window: Option<usize>,
    blocks: HashMap<u64, u32>,
    clock: u64,
    actions: Vec<Action>,
    changes: Vec<PrefixChange>,
}

/// How many sequences hold a cell.
#[derive(Clone, Copy, Default)]
struct Cell {
    all: u16,
    running: u16,
}

// === impl KvAllocator ===

impl KvAllocator {
    /// An empty cache. Cached sequences may hold `max_cached` cells; the newest of them may always stay.
    pub(crate) fn new(cells: usize, max_cached: usize, sequences: usize) -> Self {
        let numbers = u32::try_from(cells).expect("the cells of a cache should fit into 32 bits");
        Self {
            cells: vec![Cell::default(); cells],
            free: (0..numbers).rev().collect(),
            max_cached,
            running_cells: 0,
            sequences: (0..sequences).map(|_| None).collect(),
            window: None,
            blocks: HashMap::new(),
            clock: 0,
            actions: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The cache of a model whose layers see all tokens or the newest `window` ones. None: no layer has a
    /// window, or its length is not known.
    pub(crate) fn with_window(mut self, window: Option<usize>) -> Self {
        self.window = window;
        self
    }

    /// Cells in use.
    pub(crate) fn used(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// Cells that only cached sequences hold.
    pub(crate) fn cached(&self) -> usize {
        self.used() - self.running_cells
    }

    /// Cells that new tokens can have, after eviction.
    pub(crate) fn available(&self) -> usize {
        self.cells.len() - self.running_cells
    }

    /// Takes the actions that must be applied to the real cache.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Takes the changes of the set of prefix blocks.
    pub(crate) fn take_changes(&mut self) -> Vec<PrefixChange> {
        std::mem::take(&mut self.changes)
    }

    /// Reads from the real cache which token of each sequence is the first that every layer holds. Must be called after
    /// each batch: with a sliding window, the cache reuses cells that are outside of the window.
    pub(crate) fn update_first_held(&mut self, first: impl Fn(SequenceId) -> usize) {
        for (id, sequence) in self.sequences.iter_mut().enumerate() {
            if let Some(sequence) = sequence {
                sequence.first_held = first(id);
            }
        }
    }

    /// Finds the longest cached prefix of these tokens. It never covers all of them: the last one must be computed, to
    /// know what follows it.
    pub(crate) fn find(&self, salt: &str, tokens: &[Token]) -> PrefixMatch {
        let wanted = &tokens[..tokens.len().saturating_sub(1)];
        let mut best = PrefixMatch::default();
        for (id, sequence) in self.sequences.iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            let length = common_length(&sequence.tokens, wanted);
            if length > best.length
                && *sequence.salt == *salt
                && sequence.can_be_continued_at(length, self.window)
            {
                best = PrefixMatch {
                    from: Some(id),
                    length,
                    evictable: 0,
                };
            }
        }
        if let Some(sequence) = best.from.and_then(|id| self.sequences[id].as_ref()) {
            let shared = &sequence.cells[..best.length];
            best.evictable = shared
                .iter()
                .filter(|cell| self.cells[**cell as usize].running == 0)
                .count();
        }
        best
    }

    /// How many cells of `available` a sequence of this many tokens takes, if it starts with the match `held`.
    pub(crate) fn needed(tokens: usize, held: PrefixMatch) -> usize {
        tokens - held.length + held.evictable
    }

    /// Adds a running sequence that starts with a match that `find` has just returned.
    pub(crate) fn open(
        &mut self,
        salt: Arc<str>,
        blocks: Arc<[Block]>,
        held: PrefixMatch,
    ) -> SequenceId {
        let id = self.free_sequence(held.from);
        let mut sequence = Sequence::new(salt, blocks);
        if let Some((from, source)) = held
            .from
            .and_then(|from| Some((from, self.sequences[from].as_mut()?)))
        {
            sequence
                .tokens
                .extend_from_slice(&source.tokens[..held.length]);
            sequence
                .cells
                .extend_from_slice(&source.cells[..held.length]);
            sequence.first_held = source.first_held;
            if source.cached_since.is_some() {
                self.clock += 1;
                source.cached_since = Some(self.clock);
            }
            self.actions.push(Action::Share {
                from,
                to: id,
                length: held.length,
            });
        }
        for cell in &sequence.cells {
            let cell = &mut self.cells[*cell as usize];
            cell.all += 1;
            cell.running += 1;
            self.running_cells += usize::from(cell.running == 1);
        }
        self.sequences[id] = Some(sequence);
        self.hold_blocks(id);
        id
    }

    /// Adds a running sequence that holds the same cells as another running one.
    pub(crate) fn fork(&mut self, of: SequenceId) -> SequenceId {
        let source = self.running(of);
        let (salt, blocks) = (Arc::clone(&source.salt), Arc::clone(&source.blocks));
        let held = PrefixMatch {
            from: Some(of),
            length: source.tokens.len(),
            evictable: 0,
        };
        self.open(salt, blocks, held)
    }

    /// Frees cells for this many new tokens by evicting cached sequences, oldest first. Returns false if running
    /// sequences hold too many cells.
    pub(crate) fn reserve(&mut self, tokens: usize) -> bool {
        while self.free.len() < tokens {
            let Some(oldest) = self.oldest_cached(None) else {
                return false;
            };
            self.close(oldest);
        }
        true
    }

    /// Assigns cells to the next tokens of a running sequence, after `reserve`.
    pub(crate) fn extend(&mut self, id: SequenceId, tokens: &[Token]) {
        for token in tokens {
            let cell = self
                .free
                .pop()
                .expect("room for the tokens should have been reserved");
            self.cells[cell as usize] = Cell { all: 1, running: 1 };
            self.running_cells += 1;
            let sequence = self.running_mut(id);
            sequence.tokens.push(*token);
            sequence.cells.push(cell);
        }
        self.hold_blocks(id);
    }

    /// The sequence no longer runs; its tokens stay cached for prompts that begin with them.
    pub(crate) fn retain(&mut self, id: SequenceId) {
        self.clock += 1;
        let clock = self.clock;
        let sequence = self.sequences[id]
            .as_mut()
            .expect("a running sequence should be in the allocator");
        sequence.cached_since = Some(clock);
        for cell in &sequence.cells {
            let cell = &mut self.cells[*cell as usize];
            cell.running -= 1;
            self.running_cells -= usize::from(cell.running == 0);
        }
        self.drop_repeated(id);
        while self.cached() > self.max_cached
            && let Some(oldest) = self.oldest_cached(Some(id))
        {
            self.close(oldest);
        }
    }

    /// Frees the cells of a sequence, apart from those that other sequences share.
    pub(crate) fn close(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences[id].take() else {
            return;
        };
        let running = sequence.cached_since.is_none();
        for number in sequence.cells {
            let cell = &mut self.cells[number as usize];
            cell.all -= 1;
            if running {
                cell.running -= 1;
                self.running_cells -= usize::from(cell.running == 0);
            }
            if cell.all == 0 {
                self.free.push(number);
            }
        }
        for block in &sequence.blocks[..sequence.blocks_held] {
            let count = self
                .blocks
                .get_mut(&block.hash)
                .expect("a held block should be counted");
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&block.hash);
                self.changes.push(PrefixChange::Removed(block.hash));
            }
        }
        self.actions.push(Action::Clear(id));
    }

    /// Evicts all cached sequences.
    pub(crate) fn evict_cached(&mut self) {
        while let Some(oldest) = self.oldest_cached(None) {
            self.close(oldest);
        }
    }

    /// Frees all cells, after a failure of the real cache.
    pub(crate) fn clear(&mut self) {
        for id in 0..self.sequences.len() {
            self.close(id);
        }
        self.actions.clear();
    }

    /// If one cached sequence is a prefix of another, only the longer one is useful.
    fn drop_repeated(&mut self, id: SequenceId) {
        let new = self.running(id);
        let mut repeated = Vec::new();
        for (other, sequence) in self.sequences.iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            if other == id || sequence.cached_since.is_none() || sequence.salt != new.salt {
                continue;
            }
            let common = common_length(&sequence.tokens, &new.tokens);
            if common == sequence.tokens.len() {
                repeated.push(other);
            } else if common == new.tokens.len() {
                repeated.push(id);
                break;
            }
        }
        for id in repeated {
            self.close(id);
        }
    }

    fn free_sequence(&mut self, not: Option<SequenceId>) -> SequenceId {
        if let Some(id) = self.sequences.iter().position(Option::is_none) {
            return id;
        }
        let oldest = self
            .oldest_cached(not)
            .expect("there should be two sequences more than ever run at the same time");
        self.close(oldest);
        oldest
    }

    fn oldest_cached(&self, not: Option<SequenceId>) -> Option<SequenceId> {
        let kept = self
            .sequences
            .iter()
            .enumerate()
            .filter_map(|(id, sequence)| {
                let since = sequence.as_ref()?.cached_since?;
                (Some(id) != not).then_some((since, id))
            });
        kept.min().map(|(_, id)| id)
    }

    fn hold_blocks(&mut self, id: SequenceId) {
        let Some(sequence) = &mut self.sequences[id] else {
            return;
        };
        while let Some(block) = sequence.blocks.get(sequence.blocks_held)
            && block.end <= sequence.tokens.len()
        {
            sequence.blocks_held += 1;
            let count = self.blocks.entry(block.hash).or_default();
            *count += 1;
            if *count == 1 {
                self.changes.push(PrefixChange::Added(block.hash));
            }
        }
    }

    fn running(&self, id: SequenceId) -> &Sequence {
        self.sequences[id]
            .as_ref()
            .expect("a running sequence should be in the allocator")
    }

    fn running_mut(&mut self, id: SequenceId) -> &mut Sequence {
        self.sequences[id]
            .as_mut()
            .expect("a running sequence should be in the allocator")
    }
}

#[cfg(test)]
mod tests;
