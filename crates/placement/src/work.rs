//! What a request asks of a worker.

use std::sync::Arc;

/// Bytes of a prompt that one prefix block stands for.
pub const BLOCK_BYTES: u64 = 1024;

/// What a request asks of a worker.
#[derive(Clone, Debug)]
pub struct Work {
    /// Bytes of the prompt as it was sent.
    pub prompt_bytes: u64,
    /// About how many tokens these are.
    pub prompt_tokens: u64,
    /// The chain of its prefix blocks, of [`BLOCK_BYTES`] each: a block's hash stands for everything
    /// before it too.
    pub blocks: Arc<[u64]>,
    /// How many answers it wants.
    pub sequences: u32,
}

// === impl Work ===

impl Work {
    /// Tokens of the prompt that must be computed where so many of its blocks are held.
    #[must_use]
    pub fn uncached_tokens(&self, covered_blocks: usize) -> u64 {
        let covered = (covered_blocks as u64 * BLOCK_BYTES).min(self.prompt_bytes);
        let left = u128::from(self.prompt_bytes - covered);
        let tokens = u128::from(self.prompt_tokens) * left;
        // Never more than `prompt_tokens`.
        let tokens = tokens / u128::from(self.prompt_bytes.max(1));
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}
