//! A request that is ready for the engine.

use std::sync::Arc;

use inferyard_chat::grammar::Guide;
use inferyard_chat::output::OutputFormat;
use inferyard_engine::queue;
use inferyard_engine::reply::Reply;
use inferyard_engine::request::Sampling;
use tokio::time::Instant;

use crate::kv::{Block, Token};
use crate::sample::TokenId;

/// A request that is ready for the engine, and the way of its events.
pub(crate) struct Job {
    /// What is to be done.
    pub(crate) prepared: Prepared,
    /// Where the events go.
    pub(crate) reply: Reply,
}

/// A request that is ready for the engine.
pub(crate) struct Prepared {
    /// The prompt; never empty, and shorter than the context.
    pub(crate) tokens: Vec<Token>,
    /// The router's prefix blocks, and the tokens they cover.
    pub(crate) blocks: Arc<[Block]>,
    /// Caches are shared only between equal salts.
    pub(crate) salt: Arc<str>,
    /// How the answer is read.
    pub(crate) format: OutputFormat,
    /// Control tokens whose text the reading of the answer needs.
    pub(crate) controls: Arc<[TokenId]>,
    /// What the answer must look like; copied for each choice.
    pub(crate) grammar: Option<Grammar>,
    /// How tokens are chosen.
    pub(crate) sampling: Arc<Sampling>,
    /// Log probabilities: of how many alternatives.
    pub(crate) top_logprobs: Option<usize>,
    /// The most tokens of each answer.
    pub(crate) max_tokens: usize,
    /// How many answers.
    pub(crate) choices: usize,
    /// The caller stops waiting then.
    pub(crate) deadline: Option<Instant>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Text that each answer starts with.
    pub(crate) echo: Option<String>,
}

/// A grammar that an answer obeys.
pub(crate) struct Grammar {
    /// Where the answer begins.
    pub(crate) guide: Guide,
    /// The OpenAI field that asks for it.
    pub(crate) param: &'static str,
}

// === impl Job ===

impl queue::Job for Job {
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
