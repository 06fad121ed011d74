//! A request, checked: what the wire said, in types that cannot be wrong.

use std::num::NonZeroUsize;

use bytes::Bytes;
use tokio::time::Instant;

use crate::event::Failure;

/// Bytes of a prompt per token, before it is tokenized.
const TOKEN_BYTES: usize = 4;

/// A request for tokens.
pub struct Request {
    /// What the model reads.
    pub prompt: Prompt,
    /// How many independent answers.
    pub choices: NonZeroUsize,
    /// The most tokens of each answer; None: up to the end of the context.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Log probabilities: of how many alternatives; None: none at all.
    pub top_logprobs: Option<usize>,
    /// The most tokens of the prompt that the caller pays for; None: no limit.
    pub max_prompt_tokens: Option<u32>,
    /// The shape the answer must have.
    pub format: Option<ResponseFormat>,
    /// The router's chain of prefix blocks.
    pub prefix_blocks: Vec<u64>,
    /// Caches are shared only between equal salts.
    pub cache_salt: String,
    /// When nobody waits for the answer any longer.
    pub deadline: Option<Instant>,
    /// Higher goes first.
    pub priority: i32,
    /// A JSON object of the fields that the router does not know, or empty.
    pub extra_json: Bytes,
}

/// What the model reads.
pub enum Prompt {
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
pub struct Chat {
    /// A JSON array.
    pub messages_json: Bytes,
    /// A JSON array, or empty; always empty where no tool is to be called.
    pub tools_json: Bytes,
    /// Whether the model may, must or must not call tools.
    pub tool_choice: ToolChoice,
    /// More than one call may come.
    pub parallel_tool_calls: bool,
    /// A JSON object, or empty.
    pub template_kwargs_json: Bytes,
}

/// Whether the model calls tools.
pub enum ToolChoice {
    /// It does not.
    None,
    /// It decides, among these (empty: all).
    Auto(Vec<String>),
    /// It does, one of these (empty: any).
    Required(Vec<String>),
}

/// A prompt that is no conversation.
pub enum TextSource {
    /// Text for the tokenizer.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// The shape an answer must have.
#[derive(Clone)]
pub enum ResponseFormat {
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
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Above 0; 1 keeps all tokens.
    pub top_p: f32,
    /// None keeps all tokens.
    pub top_k: Option<NonZeroUsize>,
    /// 0 keeps all tokens.
    pub min_p: f32,
    /// Times the count of the token in the answer.
    pub frequency_penalty: f32,
    /// Once for a token of the answer.
    pub presence_penalty: f32,
    /// Divides the logits of tokens of the prompt and the answer; 1 is none.
    pub repetition_penalty: f32,
    /// None: random.
    pub seed: Option<i64>,
    /// Added to the logits.
    pub logit_bias: Vec<(u32, f32)>,
}

/// Refuses a prompt of `tokens` tokens where `most` is less.
pub fn check_price(most: Option<u32>, tokens: u32) -> Result<(), Failure> {
    match most {
        Some(most) if tokens > most => Err(Failure::too_expensive(tokens, most)),
        Some(_) | None => Ok(()),
    }
}

// === impl Request ===

impl Request {
    /// About how many tokens the prompt has, before it is tokenized.
    #[must_use]
    pub fn estimated_prompt_tokens(&self) -> u64 {
        match &self.prompt {
            Prompt::Text {
                source: TextSource::Tokens(ids),
                ..
            } => ids.len() as u64,
            prompt => (prompt.input_bytes() / TOKEN_BYTES) as u64,
        }
    }

    /// A request for one answer to this prompt, with the default of every other field.
    pub fn new(prompt: Prompt) -> Self {
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

// === impl Prompt ===

impl Prompt {
    /// Bytes that an engine has to read: messages, tools and template variables, or the text, or the token ids.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        match self {
            Self::Chat(chat) => {
                chat.messages_json.len() + chat.tools_json.len() + chat.template_kwargs_json.len()
            }
            Self::Text { source, .. } => match source {
                TextSource::Text(text) => text.len(),
                TextSource::Tokens(ids) => size_of_val(ids.as_slice()),
            },
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
