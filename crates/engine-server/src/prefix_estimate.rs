//! Which prefixes the engine's cache probably holds: those of the last prompts, as many as fit.
//!
//! Engines keep the prefixes of what they computed and drop the ones that were not used for longest,
//! and do not say which. Where a request goes back to the worker that had the conversation before it,
//! this guess is what brings it there; a wrong one costs a prefill. Where an engine says how much of a prompt
//! it had, the guess is corrected.

use std::collections::{BTreeMap, HashMap};

use inferyard_engine::state::PrefixChange;

/// Tokens that a block of 1 KiB has about.
const BLOCK_TOKENS: u64 = 256;
/// Assumed of an engine that does not tell the size of its cache.
const DEFAULT_BLOCKS: usize = 1024;
/// More would make the set of all workers' blocks too large for a router.
const MAX_BLOCKS: usize = 65_536;

/// The blocks, by when they were used.
pub(crate) struct Held {
    capacity: usize,
    used: HashMap<u64, u64>,
    // The other way round; no two blocks are used at the same time.
    oldest: BTreeMap<u64, u64>,
    clock: u64,
}

/// What was thought to be held of a prompt: when each of its blocks was used, from the first one on.
#[derive(Debug, Default)]
pub(crate) struct Thought(Vec<u64>);

// === impl Held ===

impl Held {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            capacity: DEFAULT_BLOCKS,
            used: HashMap::new(),
            oldest: BTreeMap::new(),
            clock: 0,
        }
    }

    /// The engine says how many tokens its cache holds.
    pub(crate) fn fit(&mut self, kv_tokens: u64) {
        if kv_tokens > 0 {
            let blocks = usize::try_from(kv_tokens / BLOCK_TOKENS).unwrap_or(MAX_BLOCKS);
            self.capacity = blocks.clamp(1, MAX_BLOCKS);
        }
    }

    /// A prompt with these blocks was computed.
    pub(crate) fn use_all(&mut self, blocks: &[u64], changes: &mut Vec<PrefixChange>) {
        // A prefix is worth nothing without what stands before it: the first blocks are the newest.
        for block in blocks.iter().take(self.capacity).rev() {
            self.clock += 1;
            match self.used.insert(*block, self.clock) {
                Some(before) => {
                    self.oldest.remove(&before);
                }
                None => changes.push(PrefixChange::Added(*block)),
            }
            self.oldest.insert(self.clock, *block);
        }
        while self.used.len() > self.capacity {
            let Some((_, block)) = self.oldest.pop_first() else {
                break;
            };
            self.used.remove(&block);
            changes.push(PrefixChange::Removed(block));
        }
    }

    /// What it is thought to hold of a prompt with these blocks.
    pub(crate) fn of(&self, blocks: &[u64]) -> Thought {
        let used = blocks.iter().map_while(|block| self.used.get(block));
        Thought(used.copied().collect())
    }

    /// The engine had only so many of the blocks that were thought to be held. So it has dropped the next one, and
    /// with it all that was used before it. One block more or less is no news: the borders are not ours.
    pub(crate) fn learn(&mut self, thought: &Thought, had: usize, changes: &mut Vec<PrefixChange>) {
        let Some(dropped) = thought.0.get(had.saturating_add(1)) else {
            return;
        };
        let kept = self.oldest.split_off(&(dropped + 1));
        for block in std::mem::replace(&mut self.oldest, kept).into_values() {
            self.used.remove(&block);
            changes.push(PrefixChange::Removed(block));
        }
    }

    /// The engine started anew.
    pub(crate) fn clear(&mut self, changes: &mut Vec<PrefixChange>) {
        self.oldest.clear();
        changes.extend(
            self.used
                .drain()
                .map(|(block, _)| PrefixChange::Removed(block)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(held: &mut Held, blocks: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let mut changes = Vec::new();
        held.use_all(blocks, &mut changes);
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                PrefixChange::Added(block) => added.push(block),
                PrefixChange::Removed(block) => removed.push(block),
            }
        }
        (added, removed)
    }

    #[test]
    fn the_ends_of_the_oldest_prompts_go_first() {
        let mut held = Held::new();
        held.fit(4 * BLOCK_TOKENS);
        assert_eq!(changed(&mut held, &[1, 2, 3]), (vec![3, 2, 1], vec![]));
        assert_eq!(changed(&mut held, &[1, 2, 4]), (vec![4], vec![]));
        assert_eq!(changed(&mut held, &[9]), (vec![9], vec![3]));
        assert_eq!(changed(&mut held, &[1, 2]), (vec![], vec![]));
        assert_eq!(changed(&mut held, &[8]), (vec![8], vec![4]));
        let mut changes = Vec::new();
        held.clear(&mut changes);
        assert_eq!(changes.len(), 4);
        assert_eq!(changed(&mut held, &[1]), (vec![1], vec![]));
    }

    #[test]
    fn an_engine_that_had_less_has_dropped_all_that_is_older() {
        let mut held = Held::new();
        changed(&mut held, &[1, 2, 3]);
        changed(&mut held, &[7, 8, 9]);
        changed(&mut held, &[4, 5]);
        let thought = held.of(&[7, 8, 9, 10]);
        changed(&mut held, &[7, 8, 9, 10]);
        let mut changes = Vec::new();
        for enough in [2, 3, 4] {
            held.learn(&thought, enough, &mut changes);
            assert!(changes.is_empty(), "{enough}: {changes:?}");
        }
        // It had the first one: the third was dropped, and the prompt before it.
        held.learn(&thought, 1, &mut changes);
        let gone = [3, 2, 1].map(PrefixChange::Removed);
        assert_eq!(changes, gone);
        // The prompt itself was computed meanwhile, and what was used later is there.
        assert_eq!(held.of(&[7, 8, 9, 10]).0.len(), 4);
        assert_eq!(held.of(&[4, 5]).0.len(), 2);
        assert_eq!(held.of(&[1]).0.len(), 0);
    }

    #[test]
    fn a_prompt_that_does_not_fit_keeps_its_beginning() {
        let mut held = Held::new();
        held.fit(2 * BLOCK_TOKENS);
        assert_eq!(changed(&mut held, &[1, 2, 3]), (vec![2, 1], vec![]));
    }
}
