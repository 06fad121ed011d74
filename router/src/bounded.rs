//! A map that never holds more entries than it may: what was not used lately makes room.

use std::collections::HashMap;
use std::hash::Hash;

/// A map with a bounded number of entries; the CLOCK algorithm chooses the one to evict.
#[derive(Debug)]
pub(crate) struct Bounded<K, T> {
    places: HashMap<K, usize>,
    slots: Vec<Slot<K, T>>,
    hand: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Slot<K, T> {
    key: K,
    value: T,
    /// Since the hand came by.
    used: bool,
}

// === impl Bounded ===

impl<K: Clone + Eq + Hash, T> Bounded<K, T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            capacity,
        }
    }

    /// The entry of this key, which counts as used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut T> {
        let slot = &mut self.slots[*self.places.get(key)?];
        slot.used = true;
        Some(&mut slot.value)
    }

    pub(crate) fn insert(&mut self, key: K, value: T) {
        if let Some(present) = self.get(&key) {
            *present = value;
            return;
        }
        let slot = Slot {
            key: key.clone(),
            value,
            used: false,
        };
        let place = if self.slots.len() < self.capacity {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.unused();
            self.places.remove(&self.slots[place].key);
            self.slots[place] = slot;
            place
        };
        self.places.insert(key, place);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        let Some(place) = self.places.remove(key) else {
            return;
        };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
    }

    /// The next place whose entry has not been used for a round of the hand.
    fn unused(&mut self) -> usize {
        loop {
            let place = self.hand % self.slots.len();
            self.hand = place + 1;
            if !std::mem::take(&mut self.slots[place].used) {
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let mut map = Bounded::new(100);
        for number in 0..10_000 {
            map.insert(number, number);
            for used in 0..50.min(number) {
                assert_eq!(map.get(&used), Some(&mut used.clone()), "{number}");
            }
        }
        assert_eq!((map.slots.len(), map.places.len()), (100, 100));
        assert_eq!(map.get(&9_999), Some(&mut 9_999));
        assert_eq!(map.get(&5_000), None);
    }

    #[test]
    fn a_removed_entry_is_gone_and_the_others_are_found() {
        let mut map = Bounded::new(10);
        (0..10).for_each(|number| map.insert(number, number));
        map.insert(9, 99);
        for gone in [0, 5, 9, 9] {
            map.remove(&gone);
        }
        let left: Vec<_> = (0..10)
            .filter_map(|number| map.get(&number).copied())
            .collect();
        assert_eq!(left, [1, 2, 3, 4, 6, 7, 8]);
    }
}
