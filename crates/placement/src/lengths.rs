//! Limits on prompt lengths, as the workers of a model report them.

/// Limits on prompt lengths in tokens, as the workers of a model report them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptLengths {
    /// The longest context of any worker, prompt and answer together; `None`: no worker has reported one yet.
    pub context: Option<u64>,
    /// Tokens that the chat template adds to a conversation. A worker that reports it renders and counts a prompt
    /// before computing it. `None`: at least one worker does not report it.
    pub template: Option<u64>,
}
