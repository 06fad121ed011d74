//! A request that is ready for the engine.

use std::sync::Arc;

use tokio::time::Instant;

use crate::admit;
use crate::engine::embedded::kv::{Block, Token};
use crate::engine::embedded::sample::TokenId;
use crate::engine::reply::Reply;
use crate::grammar::Guide;
use crate::output::OutputFormat;
use crate::request::Sampling;

/// A request that is ready for the engine, and the way of its events.
pub(crate) struct Job {
    /// What is to be done.
    pub(super) prepared: Prepared,
    /// Where the events go.
    pub(super) reply: Reply,
}

/// A request that is ready for the engine.
pub(super) struct Prepared {
    /// The prompt; never empty, and shorter than the context.
    pub(super) tokens: Vec<Token>,
    /// The router's prefix blocks, and the tokens they cover.
    pub(super) blocks: Arc<[Block]>,
    /// Caches are shared only between equal salts.
    pub(super) salt: Arc<str>,
    /// How the answer is read.
    pub(super) format: OutputFormat,
    /// Control tokens whose text the reading of the answer needs.
    pub(super) controls: Arc<[TokenId]>,
    /// What the answer must look like; copied for each choice.
    pub(super) grammar: Option<Grammar>,
    /// How tokens are chosen.
    pub(super) sampling: Arc<Sampling>,
    /// Log probabilities: of how many alternatives.
    pub(super) top_logprobs: Option<usize>,
    /// The most tokens of each answer.
    pub(super) max_tokens: usize,
    /// How many answers.
    pub(super) choices: usize,
    /// The caller stops waiting then.
    pub(super) deadline: Option<Instant>,
    /// Higher goes first.
    pub(super) priority: i32,
    /// Text that each answer starts with.
    pub(super) echo: Option<String>,
}

/// A grammar that an answer obeys.
pub(super) struct Grammar {
    /// Where the answer begins.
    pub(super) guide: Guide,
    /// The OpenAI field that asks for it.
    pub(super) param: &'static str,
}

// === impl Job ===

impl admit::Job for Job {
    fn prompt_tokens(&self) -> usize {
        self.prepared.tokens.len()
    }

    fn deadline(&self) -> Option<Instant> {
        self.prepared.deadline
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }
}
