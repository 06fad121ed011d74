//! An upper bound for placement: a single LRU cache as large as all workers' caches together.

use std::collections::{BTreeMap, HashMap};

use super::trace::{BLOCK_TOKENS, Request};

/// The share of prompt tokens that hit a single LRU cache of this number of tokens.
pub(crate) fn hits(trace: &[Request], tokens: u64) -> f64 {
    let capacity = usize::try_from(tokens / u64::from(BLOCK_TOKENS)).unwrap_or(usize::MAX);
    let mut used: HashMap<u64, u64> = HashMap::new();
    let mut oldest: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut clock, mut hit, mut all) = (0, 0, 0);
    for request in trace {
        let held = request
            .blocks
            .iter()
            .take_while(|block| used.contains_key(block));
        hit += held.count() as u64 * u64::from(BLOCK_TOKENS);
        all += u64::from(request.prompt_tokens);
        // A block is useless without the blocks before it, so earlier blocks count as more recently used.
        for &block in request.blocks.iter().rev() {
            clock += 1;
            if let Some(before) = used.insert(block, clock) {
                oldest.remove(&before);
            }
            oldest.insert(clock, block);
        }
        while used.len() > capacity {
            if let Some((_, block)) = oldest.pop_first() {
                used.remove(&block);
            }
        }
    }
    super::outcome::share(hit, all)
}
