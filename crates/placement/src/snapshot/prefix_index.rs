//! The prefix blocks that a worker reports to hold, bounded.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::state::Prefixes;

/// Blocks remembered per worker at most: 256 MiB of prompt text, or 64 million tokens. A full set takes 4.5 MiB.
const MOST: usize = 262_144;

/// Hashes of the blocks.
#[derive(Debug, Default)]
pub(super) struct PrefixIndex(HashSet<u64, BuildHasherDefault<AlreadyHashed>>);

// === impl PrefixIndex ===

impl PrefixIndex {
    /// Applies a change that the worker reported.
    pub(super) fn change(&mut self, change: Prefixes) {
        if change.reset {
            self.0.clear();
        }
        for block in change.removed {
            self.0.remove(&block);
        }
        let room = MOST.saturating_sub(self.0.len());
        self.0.extend(change.added.into_iter().take(room));
    }

    /// How many blocks at the beginning of the chain are held.
    ///
    /// A worker evicts the end of a chain before its beginning, so a galloping search finds the border: steps double
    /// until a block is missing, then halve.
    pub(super) fn covered(&self, blocks: &[u64]) -> usize {
        let holds = |index: usize| self.0.contains(&blocks[index]);
        let (mut held, mut step) = (0, 1);
        let missing = loop {
            let next = held + step;
            if next > blocks.len() {
                break blocks.len() + 1;
            }
            if !holds(next - 1) {
                break next;
            }
            held = next;
            step *= 2;
        };
        let mut missing = missing;
        while missing - held > 1 {
            let middle = held + (missing - held) / 2;
            if holds(middle - 1) {
                held = middle;
            } else {
                missing = middle;
            }
        }
        held
    }
}

/// Prefix blocks are hashes already, so they are used as they are.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_is_found_wherever_it_is() {
        let blocks: Vec<u64> = (1..=70).collect();
        for length in 0..=blocks.len() {
            let chain = &blocks[..length];
            for held in 0..=length {
                let mut set = PrefixIndex::default();
                let added = chain[..held].to_vec();
                set.change(Prefixes {
                    added,
                    ..Prefixes::default()
                });
                assert_eq!(set.covered(chain), held, "{held} of {length}");
            }
        }
    }

    #[test]
    fn what_would_be_too_much_is_not_remembered() {
        let mut set = PrefixIndex::default();
        let added = (0..300_000).collect();
        set.change(Prefixes {
            added,
            ..Prefixes::default()
        });
        assert_eq!(set.0.len(), MOST);
        let bytes = set.0.capacity() * 8 / 7 * 9;
        assert!(bytes < 5 << 20, "{bytes}");
    }
}
