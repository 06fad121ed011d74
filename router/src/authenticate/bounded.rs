//! A map by key hash that never holds more than it may: what was not used lately makes room.

use std::collections::HashMap;

use crate::catalog::KeyHash;

/// Entries by hash, at most so many; the clock's hand chooses what goes.
pub(super) struct Bounded<T> {
    places: HashMap<KeyHash, usize>,
    slots: Vec<Slot<T>>,
    hand: usize,
    capacity: usize,
}

struct Slot<T> {
    hash: KeyHash,
    value: T,
    /// Since the hand came by.
    used: bool,
}

// === impl Bounded ===

impl<T> Bounded<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            capacity,
        }
    }

    /// The entry of this hash. The map's comparison may end early and so tell how a guess differs
    /// from a hash that is stored; that leads to no key, since no text is found for a hash.
    pub(super) fn get(&mut self, hash: &KeyHash) -> Option<&mut T> {
        let slot = &mut self.slots[*self.places.get(hash)?];
        slot.used = true;
        Some(&mut slot.value)
    }

    pub(super) fn insert(&mut self, hash: KeyHash, value: T) {
        if let Some(present) = self.get(&hash) {
            *present = value;
            return;
        }
        let slot = Slot {
            hash,
            value,
            used: false,
        };
        let place = if self.slots.len() < self.capacity {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.unused();
            self.places.remove(&self.slots[place].hash);
            self.slots[place] = slot;
            place
        };
        self.places.insert(hash, place);
    }

    pub(super) fn remove(&mut self, hash: &KeyHash) {
        let Some(place) = self.places.remove(hash) else {
            return;
        };
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.hash, place);
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

    fn hash(number: u32) -> KeyHash {
        KeyHash::of(&number.to_be_bytes())
    }

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let mut map = Bounded::new(100);
        for number in 0..10_000 {
            map.insert(hash(number), number);
            for used in 0..50.min(number) {
                assert_eq!(map.get(&hash(used)), Some(&mut used.clone()), "{number}");
            }
        }
        assert_eq!((map.slots.len(), map.places.len()), (100, 100));
        assert_eq!(map.get(&hash(9_999)), Some(&mut 9_999));
        assert_eq!(map.get(&hash(5_000)), None);
    }

    #[test]
    fn a_removed_entry_is_gone_and_the_others_are_found() {
        let mut map = Bounded::new(10);
        (0..10).for_each(|number| map.insert(hash(number), number));
        map.insert(hash(9), 99);
        for gone in [0, 5, 9, 9] {
            map.remove(&hash(gone));
        }
        let left: Vec<_> = (0..10)
            .filter_map(|number| map.get(&hash(number)).copied())
            .collect();
        assert_eq!(left, [1, 2, 3, 4, 6, 7, 8]);
    }
}
