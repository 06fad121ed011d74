//! The cached prefix of a prompt.

use super::SequenceId;

/// The longest prefix of a prompt that the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixMatch {
    /// The sequence that holds it; None: the match is empty.
    pub(super) from: Option<SequenceId>,
    /// Tokens of the prefix.
    pub(crate) length: usize,
    /// How many of its cells are evictable now, because no running sequence holds them. Sharing them takes them out of
    /// `available()`, so `needed()` adds them.
    pub(super) evictable: usize,
}
