//! A request, checked: what the wire said, in types that cannot be wrong.

use std::num::NonZeroUsize;

use bytes::Bytes;
use tokio::time::Instant;

use crate::event::Failure;

/// A request for tokens.
pub(crate) struct Request {
    /// What the model reads.
    pub(crate) prompt: Prompt,
    /// How many independent answers.
    pub(crate) choices: NonZeroUsize,
    /// The most tokens of each answer; None: up to the end of the context.
    pub(crate) max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub(crate) sampling: Sampling,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// Log probabilities: of how many alternatives; None: none at all.
    pub(crate) top_logprobs: Option<usize>,
    /// The most tokens of the prompt that the caller pays for; None: no limit.
    pub(crate) max_prompt_tokens: Option<u32>,
    /// The shape the answer must have.
    pub(crate) format: Option<ResponseFormat>,
    /// The router's chain of prefix blocks.
    pub(crate) prefix_blocks: Vec<u64>,
    /// Caches are shared only between equal salts.
    pub(crate) cache_salt: String,
    /// When nobody waits for the answer any longer.
    pub(crate) deadline: Option<Instant>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// A JSON object of the fields that the router does not know, or empty.
    pub(crate) extra_json: Bytes,
}

/// What the model reads.
pub(crate) enum Prompt {
    /// A conversation.
    Chat(Chat),
    /// Text as it is.
    Text {
        /// The text, or its tokens.
        source: TextSource,
        /// The answer starts with the prompt.
        echo: bool,
    },
}

/// A conversation and its tools.
pub(crate) struct Chat {
    /// A JSON array.
    pub(crate) messages_json: Bytes,
    /// A JSON array, or empty; always empty where no tool is to be called.
    pub(crate) tools_json: Bytes,
    /// Whether the model may, must or must not call tools.
    pub(crate) tool_choice: ToolChoice,
    /// More than one call may come.
    pub(crate) parallel_tool_calls: bool,
    /// A JSON object, or empty.
    pub(crate) template_kwargs_json: Bytes,
}

/// Whether the model calls tools.
pub(crate) enum ToolChoice {
    /// It does not.
    None,
    /// It decides, among these (empty: all).
    Auto(Vec<String>),
    /// It does, one of these (empty: any).
    Required(Vec<String>),
}

/// A prompt that is no conversation.
pub(crate) enum TextSource {
    /// Text for the tokenizer.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// The shape an answer must have.
#[derive(Clone)]
pub(crate) enum ResponseFormat {
    /// Any JSON object.
    JsonObject,
    /// What this JSON Schema accepts.
    JsonSchema {
        /// Its JSON text.
        schema: Bytes,
        /// Every keyword of it must be enforced.
        strict: bool,
    },
}

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampling {
    /// 0 is greedy.
    pub(crate) temperature: f32,
    /// Above 0; 1 keeps all tokens.
    pub(crate) top_p: f32,
    /// None keeps all tokens.
    pub(crate) top_k: Option<NonZeroUsize>,
    /// 0 keeps all tokens.
    pub(crate) min_p: f32,
    /// Times the count of the token in the answer.
    pub(crate) frequency_penalty: f32,
    /// Once for a token of the answer.
    pub(crate) presence_penalty: f32,
    /// Divides the logits of tokens of the prompt and the answer; 1 is none.
    pub(crate) repetition_penalty: f32,
    /// None: random.
    pub(crate) seed: Option<i64>,
    /// Added to the logits.
    pub(crate) logit_bias: Vec<(u32, f32)>,
}

/// Refuses a prompt of `tokens` tokens where `most` is less.
pub(crate) fn check_price(most: Option<u32>, tokens: u32) -> Result<(), Failure> {
    match most {
        Some(most) if tokens > most => Err(Failure::too_expensive(tokens, most)),
        Some(_) | None => Ok(()),
    }
}

// === impl Request ===

impl Request {
    /// A request for one answer to this prompt, with the default of every other field.
    pub(crate) fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            choices: NonZeroUsize::MIN,
            max_tokens: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            top_logprobs: None,
            max_prompt_tokens: None,
            format: None,
            prefix_blocks: Vec::new(),
            cache_salt: String::new(),
            deadline: None,
            priority: 0,
            extra_json: Bytes::new(),
        }
    }
}

// === impl Sampling ===

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}
