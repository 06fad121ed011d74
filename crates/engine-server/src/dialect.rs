//! What a server understands and tells beyond OpenAI's own fields.

use crate::config::ServerKind;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Vllm,
    SgLang,
    /// Told apart by how it describes its model.
    LlamaCpp,
    /// Anything else.
    Plain,
}

// === impl Dialect ===

impl Dialect {
    pub(crate) fn of(kind: ServerKind) -> Self {
        match kind {
            ServerKind::Vllm => Self::Vllm,
            ServerKind::SgLang => Self::SgLang,
            ServerKind::OpenAi => Self::Plain,
        }
    }

    /// What a server of an unknown kind is, by the owner that it names for its model.
    pub(crate) fn refined(self, owner: &str) -> Self {
        match (self, owner) {
            (Self::Plain, "vllm") => Self::Vllm,
            (Self::Plain, "sglang") => Self::SgLang,
            (Self::Plain, "llamacpp") => Self::LlamaCpp,
            _ => self,
        }
    }

    /// The path of its health check. None: it is up when it lists its models.
    pub(crate) fn health(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::SgLang | Self::LlamaCpp => Some("/health"),
            Self::Plain => None,
        }
    }

    /// Whether it serves metrics that are read.
    pub(crate) fn has_metrics(self) -> bool {
        matches!(self, Self::Vllm | Self::SgLang)
    }

    /// Whether it can tell the usage in every chunk.
    pub(crate) fn counts_as_it_goes(self) -> bool {
        matches!(self, Self::Vllm | Self::SgLang)
    }

    /// It keeps the caches of different salts apart, and knows priorities.
    pub(crate) fn separates(self) -> bool {
        matches!(self, Self::Vllm | Self::SgLang)
    }

    /// It can answer a prompt of token ids with their text.
    pub(crate) fn echoes_ids(self) -> bool {
        matches!(self, Self::Vllm | Self::SgLang)
    }

    /// The engine may leave the model's tool calls in its text; the others parse them themselves.
    pub(crate) fn leaves_calls_in_text(self) -> bool {
        self == Self::Plain
    }

    /// What `top_k` says to keep all tokens. None: nothing is said, and all are kept.
    pub(crate) fn every_token(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::SgLang => Some("-1"),
            Self::LlamaCpp => Some("0"),
            Self::Plain => None,
        }
    }

    /// What it calls `repetition_penalty`.
    pub(crate) fn repetition_penalty(self) -> &'static str {
        match self {
            Self::LlamaCpp => "repeat_penalty",
            Self::Vllm | Self::SgLang | Self::Plain => "repetition_penalty",
        }
    }

    /// The number that means this priority (higher goes first): vLLM counts the other way round.
    pub(crate) fn priority(self, priority: i32) -> i32 {
        match self {
            Self::Vllm => priority.saturating_neg(),
            Self::SgLang | Self::LlamaCpp | Self::Plain => priority,
        }
    }
}
