//! The best that any placement could do: one cache as large as all workers' together.

use std::collections::{BTreeMap, HashMap};

use super::trace::{BLOCK_TOKENS, Request};

/// The share of prompt tokens that one cache of so many tokens, the least recently used going first, has.
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
        // A block is worth nothing without those before it: they are the newest.
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
