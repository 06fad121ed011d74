//! An estimate of the prefixes that the engine's cache holds: those of the last prompts, as many as fit.
//!
//! Engines cache the prefixes of the prompts that they computed, evict the least recently used ones, and do not tell
//! which. By this estimate routers send a conversation back to the worker that had it before; a wrong estimate costs a
//! prefill. If an engine tells how much of a prompt was cached, the estimate is corrected.

use std::collections::{BTreeMap, HashMap};

use inferyard_engine::state::PrefixChange;

/// About how many tokens a block of 1 KiB has.
const BLOCK_TOKENS: u64 = 256;
/// The capacity in blocks that is assumed of an engine that does not tell the size of its cache.
const DEFAULT_BLOCKS: usize = 1024;
/// More would make the set of all workers' blocks too large for a router.
const MAX_BLOCKS: usize = 65_536;

/// The blocks that the cache is estimated to hold, by when they were used.
pub(crate) struct PrefixCacheEstimate {
    capacity: usize,
    used: HashMap<u64, u64>,
    // The other way round; no two blocks are used at the same time.
    oldest: BTreeMap<u64, u64>,
    clock: u64,
}

/// The predicted cached prefix of a prompt: when each of its blocks was last used, from the first one on.
#[derive(Debug, Default)]
pub(crate) struct Prediction(Vec<u64>);

// === impl PrefixCacheEstimate ===

impl PrefixCacheEstimate {
    /// An empty cache.
    pub(crate) fn new() -> Self {
        Self {
            capacity: DEFAULT_BLOCKS,
            used: HashMap::new(),
            oldest: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Sets the capacity to what the engine tells: the tokens of its cache.
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

    /// Predicts which prefix of a prompt with these blocks is cached.
    pub(crate) fn of(&self, blocks: &[u64]) -> Prediction {
        let used = blocks.iter().map_while(|block| self.used.get(block));
        Prediction(used.copied().collect())
    }

    /// Corrects the estimate by the blocks that the engine really reused (`reused`). If they are more than one block
    /// fewer than predicted, the engine has evicted the first missing block and, being LRU, every block last used before
    /// it. A difference of one block is ignored, because the engine's blocks and ours do not align.
    pub(crate) fn correct(
        &mut self,
        prediction: &Prediction,
        reused: usize,
        changes: &mut Vec<PrefixChange>,
    ) {
        let Some(dropped) = prediction.0.get(reused.saturating_add(1)) else {
            return;
        };
        let kept = self.oldest.split_off(&(dropped + 1));
        for block in std::mem::replace(&mut self.oldest, kept).into_values() {
            self.used.remove(&block);
            changes.push(PrefixChange::Removed(block));
        }
    }

    /// The engine was restarted: its cache is empty.
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

    fn changed(estimate: &mut PrefixCacheEstimate, blocks: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let mut changes = Vec::new();
        estimate.use_all(blocks, &mut changes);
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
        let mut estimate = PrefixCacheEstimate::new();
        estimate.fit(4 * BLOCK_TOKENS);
        assert_eq!(changed(&mut estimate, &[1, 2, 3]), (vec![3, 2, 1], vec![]));
        assert_eq!(changed(&mut estimate, &[1, 2, 4]), (vec![4], vec![]));
        assert_eq!(changed(&mut estimate, &[9]), (vec![9], vec![3]));
        assert_eq!(changed(&mut estimate, &[1, 2]), (vec![], vec![]));
        assert_eq!(changed(&mut estimate, &[8]), (vec![8], vec![4]));
        let mut changes = Vec::new();
        estimate.clear(&mut changes);
        assert_eq!(changes.len(), 4);
        assert_eq!(changed(&mut estimate, &[1]), (vec![1], vec![]));
    }

    #[test]
    fn an_engine_that_had_less_has_dropped_all_that_is_older() {
        let mut estimate = PrefixCacheEstimate::new();
        changed(&mut estimate, &[1, 2, 3]);
        changed(&mut estimate, &[7, 8, 9]);
        changed(&mut estimate, &[4, 5]);
        let prediction = estimate.of(&[7, 8, 9, 10]);
        changed(&mut estimate, &[7, 8, 9, 10]);
        let mut changes = Vec::new();
        for enough in [2, 3, 4] {
            estimate.correct(&prediction, enough, &mut changes);
            assert!(changes.is_empty(), "{enough}: {changes:?}");
        }
        // It had the first one: the third was dropped, and the prompt before it.
        estimate.correct(&prediction, 1, &mut changes);
        let gone = [3, 2, 1].map(PrefixChange::Removed);
        assert_eq!(changes, gone);
        // The prompt itself was computed meanwhile, and what was used later is there.
        assert_eq!(estimate.of(&[7, 8, 9, 10]).0.len(), 4);
        assert_eq!(estimate.of(&[4, 5]).0.len(), 2);
        assert_eq!(estimate.of(&[1]).0.len(), 0);
    }

    #[test]
    fn a_prompt_that_does_not_fit_keeps_its_beginning() {
        let mut estimate = PrefixCacheEstimate::new();
        estimate.fit(2 * BLOCK_TOKENS);
        assert_eq!(changed(&mut estimate, &[1, 2, 3]), (vec![2, 1], vec![]));
    }
}
