//! What a request needs from a worker.

use std::sync::Arc;

/// Bytes of prompt per prefix block.
pub const BLOCK_BYTES: u64 = 1024;

/// What a request needs from a worker.
#[derive(Clone, Debug)]
pub struct Work {
    /// Bytes of the prompt as it was sent.
    pub prompt_bytes: u64,
    /// Estimated tokens of the prompt.
    pub prompt_tokens: u64,
    /// Hashes of its prefix blocks of [`BLOCK_BYTES`] each; a block's hash covers all blocks before it.
    pub blocks: Arc<[u64]>,
    /// How many answers it asks for.
    pub sequences: u32,
}

// === impl Work ===

impl Work {
    /// Tokens of the prompt that a worker with `cached_blocks` of its blocks must compute; never more than
    /// `prompt_tokens`.
    #[must_use]
    pub fn uncached_tokens(&self, cached_blocks: usize) -> u64 {
        let covered = (cached_blocks as u64 * BLOCK_BYTES).min(self.prompt_bytes);
        let left = u128::from(self.prompt_bytes - covered);
        let tokens = u128::from(self.prompt_tokens) * left;
        let tokens = tokens / u128::from(self.prompt_bytes.max(1));
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}
