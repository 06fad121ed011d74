//! The block cache of the simulated GPU: which prefix blocks are held, and which of them goes first.
//!
//! Blocks that no running prompt refers to form a list by age. A prompt refers to all the blocks
//! before a block of its own and lets go of them from its tail to its head. So a head is always
//! younger than what follows it, and is evicted after it: without its head a tail is worth nothing.

use std::collections::HashMap;

/// A block of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Stands for this block and all blocks before it.
    pub hash: u64,
    /// Tokens in it.
    pub tokens: u32,
}

/// Which blocks are held.
pub(crate) struct Cache {
    capacity: u64,
    // Tokens of running jobs that are in no block, computed or promised.
    private: u64,
    // Tokens of all blocks.
    shared: u64,
    // Tokens of the blocks that nobody refers to.
    idle: u64,
    slots: Vec<Slot>,
    free: Vec<Index>,
    by_hash: HashMap<u64, Index>,
    oldest: Option<Index>,
    newest: Option<Index>,
    freed: u64,
}

/// The beginning of a prompt that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// So many blocks.
    pub(crate) blocks: usize,
    /// So many tokens in them.
    pub(crate) tokens: u32,
    /// How many of the tokens could have been evicted until now.
    idle: u64,
}

type Index = u32;

struct Slot {
    block: Block,
    references: u32,
    older: Option<Index>,
    newer: Option<Index>,
}

// === impl Cache ===

impl Cache {
    /// An empty cache for this many tokens.
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            private: 0,
            shared: 0,
            idle: 0,
            slots: Vec::new(),
            free: Vec::new(),
            by_hash: HashMap::new(),
            oldest: None,
            newest: None,
            freed: 0,
        }
    }

    /// Tokens that are held or promised.
    pub(crate) fn used(&self) -> u64 {
        self.private + self.shared
    }

    /// Tokens of blocks that nobody refers to.
    pub(crate) fn cached(&self) -> u64 {
        self.idle
    }

    /// Changes whenever there may be more room than before.
    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    /// The longest run of leading blocks that is held.
    pub(crate) fn find(&self, blocks: &[Block]) -> Found {
        let mut found = Found::default();
        for block in blocks {
            let Some(index) = self.by_hash.get(&block.hash) else {
                break;
            };
            let slot = &self.slots[*index as usize];
            // The same hash over other tokens is another block.
            if slot.block.tokens != block.tokens {
                break;
            }
            found.blocks += 1;
            found.tokens += block.tokens;
            if slot.references == 0 {
                found.idle += u64::from(block.tokens);
            }
        }
        found
    }

    /// Whether there is room for so many tokens beside what was found, after eviction.
    pub(crate) fn has_room(&self, found: Found, private: u64) -> bool {
        self.private + self.shared - self.idle + found.idle + private <= self.capacity
    }

    /// Refers to what `find` has just found and promises `private` tokens beside it; the evicted
    /// blocks go to `removed`. False: there is no room, and nothing has changed.
    pub(crate) fn open(
        &mut self,
        blocks: &[Block],
        found: Found,
        private: u64,
        removed: &mut Vec<u64>,
    ) -> bool {
        if !self.has_room(found, private) {
            return false;
        }
        for block in &blocks[..found.blocks] {
            let index = self.by_hash[&block.hash];
            self.refer(index);
        }
        while self.used() + private > self.capacity {
            let Some(oldest) = self.oldest else { break };
            removed.push(self.evict(oldest));
        }
        self.private += private;
        true
    }

    /// A block of a running prompt is computed: its tokens are no longer the prompt's own. True: it
    /// was not held before.
    pub(crate) fn hold(&mut self, block: Block) -> bool {
        self.private -= u64::from(block.tokens);
        if let Some(index) = self.by_hash.get(&block.hash) {
            // Another prompt was faster: there is one copy of it from now on.
            self.refer(*index);
            self.freed += 1;
            return false;
        }
        let slot = Slot {
            block,
            references: 1,
            older: None,
            newer: None,
        };
        let index = if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            index
        } else {
            self.slots.push(slot);
            Index::try_from(self.slots.len() - 1)
                .expect("the blocks of a cache should be countable")
        };
        self.by_hash.insert(block.hash, index);
        self.shared += u64::from(block.tokens);
        true
    }

    /// A running job ends: its own tokens are free, the blocks it refers to stay until evicted.
    pub(crate) fn close(&mut self, held: &[Block], private: u64) {
        self.private -= private;
        self.freed += 1;
        for block in held.iter().rev() {
            let index = self.by_hash[&block.hash];
            let slot = &mut self.slots[index as usize];
            slot.references -= 1;
            if slot.references == 0 {
                self.idle += u64::from(slot.block.tokens);
                self.append(index);
            }
        }
    }

    fn refer(&mut self, index: Index) {
        let slot = &mut self.slots[index as usize];
        slot.references += 1;
        if slot.references == 1 {
            self.idle -= u64::from(slot.block.tokens);
            self.unlink(index);
        }
    }

    fn evict(&mut self, index: Index) -> u64 {
        self.unlink(index);
        let block = self.slots[index as usize].block;
        self.idle -= u64::from(block.tokens);
        self.shared -= u64::from(block.tokens);
        self.by_hash.remove(&block.hash);
        self.free.push(index);
        block.hash
    }

    /// Makes a block the newest of those that nobody refers to.
    fn append(&mut self, index: Index) {
        let older = self.newest.replace(index);
        let slot = &mut self.slots[index as usize];
        slot.older = older;
        slot.newer = None;
        match older {
            Some(older) => self.slots[older as usize].newer = Some(index),
            None => self.oldest = Some(index),
        }
    }

    fn unlink(&mut self, index: Index) {
        let slot = &mut self.slots[index as usize];
        let (older, newer) = (slot.older.take(), slot.newer.take());
        match older {
            Some(older) => self.slots[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.slots[newer as usize].older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests;
