//! One sequence in the cache.

use std::sync::Arc;

use super::{Block, Token};

/// A sequence that runs, or is cached for prompts that begin with it.
pub(super) struct Sequence {
    pub(super) salt: Arc<str>,
    pub(super) tokens: Vec<Token>,
    pub(super) cells: Vec<u32>,
    /// The first of its tokens that every layer still holds.
    pub(super) first_held: usize,
    pub(super) blocks: Arc<[Block]>,
    pub(super) blocks_held: usize,
    /// When it was last used, in ticks of the allocator; None while it runs.
    pub(super) cached_since: Option<u64>,
}

// === impl Sequence ===

impl Sequence {
    /// A running sequence without cells.
    pub(super) fn new(salt: Arc<str>, blocks: Arc<[Block]>) -> Self {
        Self {
            salt,
            tokens: Vec::new(),
            cells: Vec::new(),
            first_held: 0,
            blocks,
            blocks_held: 0,
            cached_since: None,
        }
    }

    /// Every layer holds what the token at this position sees.
    pub(super) fn can_be_continued_at(&self, position: usize, window: Option<usize>) -> bool {
        // A token sees itself and the `window - 1` tokens before it.
        let seen_from = window.map_or(0, |window| (position + 1).saturating_sub(window));
        self.first_held <= seen_from
    }
}

/// How many tokens two lists begin with in common.
pub(super) fn common_length(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
