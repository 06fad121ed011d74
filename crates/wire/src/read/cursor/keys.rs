//! The keys of an object, to detect duplicates.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Raw;

/// Number of keys that are compared one by one; most objects have no more.
const FEW: usize = 8;

/// The keys so far.
#[derive(Default)]
pub(super) struct Keys<'a> {
    few: [&'a [u8]; FEW],
    count: usize,
    /// All keys, once there are more than `FEW` or one contains escapes.
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

// === impl Keys ===

impl<'a> Keys<'a> {
    /// Adds a key; returns false if it is a duplicate.
    pub(super) fn are_new_with(&mut self, key: Raw<'a>) -> bool {
        if self.many.is_none() && !key.escaped {
            if self.few[..self.count].contains(&key.text) {
                return false;
            }
            if self.count < FEW {
                self.few[self.count] = key.text;
                self.count += 1;
                return true;
            }
        }
        let few = &self.few[..self.count];
        let many = self
            .many
            .get_or_insert_with(|| few.iter().map(|key| Cow::Borrowed(*key)).collect());
        many.insert(key.name())
    }
}
