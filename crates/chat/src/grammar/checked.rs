//! Remembers which lists of tools or schemas compiled: an agent sends the same one with every request.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
/// The most lists that are remembered. A list takes eight bytes.
const MOST: usize = 1_024;

/// Lists that compiled, by their JSON text.
#[derive(Default)]
pub struct Checked {
    // Its key is random, so that a client cannot construct a list with the hash of another one.
    hasher: RandomState,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    known: HashSet<u64>,
    oldest_first: VecDeque<u64>,
}

// === impl Checked ===

impl Checked {
    /// Whether this JSON text was remembered.
    pub fn contains(&self, json: &[u8]) -> bool {
        let hash = self.hasher.hash_one(json);
        let lists = self.lists.lock();
        lists.known.contains(&hash)
    }

    /// Remembers this JSON text; the oldest one is forgotten where there are too many.
    pub fn insert(&self, json: &[u8]) {
        let hash = self.hasher.hash_one(json);
        let mut lists = self.lists.lock();
        if !lists.known.insert(hash) {
            return;
        }
        lists.oldest_first.push_back(hash);
        if lists.oldest_first.len() > MOST
            && let Some(oldest) = lists.oldest_first.pop_front()
        {
            lists.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_lists_are_known() {
        let checked = Checked::default();
        let name = |at: usize| at.to_string().into_bytes();
        for at in 0..=MOST {
            assert!(!checked.contains(&name(at)));
            checked.insert(&name(at));
        }
        assert!(!checked.contains(&name(0)));
        assert!(checked.contains(&name(1)) && checked.contains(&name(MOST)));
    }
}
