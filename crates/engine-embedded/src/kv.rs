//! The ledger of the KV cache: which sequence holds which tokens in which cells.
//!
//! It decides, the cache obeys: every call leaves `Action`s that must be carried out on the real
//! cache, in order, before the next batch is computed. Cells are counted exactly: the ledger gives
//! each computed token a cell number, and sequences that share a prefix share its cells.

use std::collections::HashMap;
use std::sync::Arc;

use inferyard_engine::state::PrefixChange;

mod sequence;

use sequence::{Sequence, common_length};

/// A token of the model's vocabulary.
pub(crate) type Token = i32;

/// The number of a sequence in the cache.
pub(crate) type SequenceId = usize;

/// A block of the router's prefix chain, and how many tokens of the prompt it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The router's hash of it.
    pub(crate) hash: u64,
    /// The cache holds it once it holds this many tokens of the prompt.
    pub(crate) end: usize,
}

/// What must be done to the real cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The first `length` cells of one sequence also belong to the other.
    Share {
        /// From this one.
        from: SequenceId,
        /// To this one.
        to: SequenceId,
        /// So many.
        length: usize,
    },
    /// The sequence holds nothing any longer.
    Clear(SequenceId),
}

/// The longest beginning of a prompt that the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// In this sequence; None: nothing is held.
    from: Option<SequenceId>,
    /// So many tokens.
    pub(crate) length: usize,
    /// How many of them could have been evicted until now.
    evictable: usize,
}

/// Who holds what.
pub(crate) struct Ledger {
    cells: Vec<Cell>,
    free: Vec<u32>,
    // The most cells that only kept sequences may hold, but for the newest of them.
    most_kept: usize,
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

// === impl Ledger ===

impl Ledger {
    /// An empty cache; `most_kept` cells of it may be taken by kept sequences, and the newest of
    /// them may always stay.
    pub(crate) fn new(cells: usize, most_kept: usize, sequences: usize) -> Self {
        let numbers = u32::try_from(cells).expect("the cells of a cache should fit into 32 bits");
        Self {
            cells: vec![Cell::default(); cells],
            free: (0..numbers).rev().collect(),
            most_kept,
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

    /// Cells that only kept sequences hold.
    pub(crate) fn cached(&self) -> usize {
        self.used() - self.running_cells
    }

    /// Cells that new tokens can have, after eviction.
    pub(crate) fn available(&self) -> usize {
        self.cells.len() - self.running_cells
    }

    /// Takes what must be done to the real cache.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Takes what has changed in the set of prefix blocks.
    pub(crate) fn take_changes(&mut self) -> Vec<PrefixChange> {
        std::mem::take(&mut self.changes)
    }

    /// Asks the real cache for the first token of each sequence that every layer holds. To be called after
    /// each batch: a cache gives cells that a sliding window has left to the tokens of the batch.
    pub(crate) fn learn_first_held(&mut self, first: impl Fn(SequenceId) -> usize) {
        for (id, sequence) in self.sequences.iter_mut().enumerate() {
            if let Some(sequence) = sequence {
                sequence.first_held = first(id);
            }
        }
    }

    /// Looks for the longest beginning of these tokens, but never for all of them: the last one must
    /// be computed to know what follows it.
    pub(crate) fn find(&self, salt: &str, tokens: &[Token]) -> Held {
        let wanted = &tokens[..tokens.len().saturating_sub(1)];
        let mut best = Held::default();
        for (id, sequence) in self.sequences.iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            let length = common_length(&sequence.tokens, wanted);
            if length > best.length
                && *sequence.salt == *salt
                && sequence.can_be_continued_at(length, self.window)
            {
                best = Held {
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

    /// How many cells of `available` a sequence of this many tokens takes, if it starts with `held`.
    pub(crate) fn needed(tokens: usize, held: Held) -> usize {
        tokens - held.length + held.evictable
    }

    /// Opens a running sequence that starts with what `find` has just found.
    pub(crate) fn open(&mut self, salt: Arc<str>, blocks: Arc<[Block]>, held: Held) -> SequenceId {
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
            if source.kept_since.is_some() {
                self.clock += 1;
                source.kept_since = Some(self.clock);
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

    /// Opens a running sequence that holds the same as another running one.
    pub(crate) fn fork(&mut self, of: SequenceId) -> SequenceId {
        let source = self.running(of);
        let (salt, blocks) = (Arc::clone(&source.salt), Arc::clone(&source.blocks));
        let held = Held {
            from: Some(of),
            length: source.tokens.len(),
            evictable: 0,
        };
        self.open(salt, blocks, held)
    }

    /// Makes room for this many new tokens; false: running sequences hold too much.
    pub(crate) fn reserve(&mut self, tokens: usize) -> bool {
        while self.free.len() < tokens {
            let Some(oldest) = self.oldest_kept(None) else {
                return false;
            };
            self.close(oldest);
        }
        true
    }

    /// Gives the next tokens of a running sequence their cells, after `reserve`.
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

    /// The sequence no longer runs; its tokens stay, for prompts that begin with them.
    pub(crate) fn keep(&mut self, id: SequenceId) {
        self.clock += 1;
        let clock = self.clock;
        let sequence = self.sequences[id]
            .as_mut()
            .expect("a running sequence should be in the ledger");
        sequence.kept_since = Some(clock);
        for cell in &sequence.cells {
            let cell = &mut self.cells[*cell as usize];
            cell.running -= 1;
            self.running_cells -= usize::from(cell.running == 0);
        }
        self.forget_repeated(id);
        while self.cached() > self.most_kept
            && let Some(oldest) = self.oldest_kept(Some(id))
        {
            self.close(oldest);
        }
    }

    /// The sequence holds nothing any longer.
    pub(crate) fn close(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences[id].take() else {
            return;
        };
        let running = sequence.kept_since.is_none();
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

    /// Only running sequences hold anything any longer.
    pub(crate) fn forget_kept(&mut self) {
        while let Some(oldest) = self.oldest_kept(None) {
            self.close(oldest);
        }
    }

    /// Nothing is held any longer, as after a failure of the real cache.
    pub(crate) fn clear(&mut self) {
        for id in 0..self.sequences.len() {
            self.close(id);
        }
        self.actions.clear();
    }

    /// Of two kept sequences of which one begins with the other, only the longer one is of use.
    fn forget_repeated(&mut self, id: SequenceId) {
        let new = self.running(id);
        let mut repeated = Vec::new();
        for (other, sequence) in self.sequences.iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            if other == id || sequence.kept_since.is_none() || sequence.salt != new.salt {
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
            .oldest_kept(not)
            .expect("there should be two sequences more than ever run at the same time");
        self.close(oldest);
        oldest
    }

    fn oldest_kept(&self, not: Option<SequenceId>) -> Option<SequenceId> {
        let kept = self
            .sequences
            .iter()
            .enumerate()
            .filter_map(|(id, sequence)| {
                let since = sequence.as_ref()?.kept_since?;
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
            .expect("a running sequence should be in the ledger")
    }

    fn running_mut(&mut self, id: SequenceId) -> &mut Sequence {
        self.sequences[id]
            .as_mut()
            .expect("a running sequence should be in the ledger")
    }
}

#[cfg(test)]
mod tests;
