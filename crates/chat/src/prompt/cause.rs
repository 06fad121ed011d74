//! What in a request a chat template fails on, for the caller.

use std::fmt;

use super::KWARGS;

/// The part of a request that a template cannot render: without it, it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The messages, or nothing else than the whole.
    Messages,
    /// The tools.
    Tools,
    /// What the caller gives the template beside messages and tools.
    Variables,
}

// === impl Cause ===

impl Cause {
    /// The OpenAI field.
    pub(super) fn param(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Tools => "tools",
            Self::Variables => KWARGS,
        }
    }

    /// What the caller can check.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Messages => "the order and the fields of the messages",
            Self::Tools => {
                "that each function has a 'description' and 'parameters' with 'properties'"
            }
            Self::Variables => "their values",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "this conversation",
            Self::Tools => "these tools",
            Self::Variables => "these variables ('chat_template_kwargs', 'reasoning_effort')",
        })
    }
}
