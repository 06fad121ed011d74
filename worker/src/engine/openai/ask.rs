//! A request becomes the body that a server understands: the client's own bytes, and our fields.

mod body;

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::dialect::Dialect;
use super::extra;
use crate::event::Failure;
use crate::request::{Chat, Prompt, Request, TextSource, ToolChoice};

use body::Body;

/// A request, ready to be sent.
pub(super) struct Ask {
    /// Where it goes.
    pub(super) endpoint: &'static str,
    /// What is sent.
    pub(super) body: Bytes,
    /// How many answers.
    pub(super) choices: usize,
    /// Bytes of the prompt.
    pub(super) prompt_bytes: usize,
    /// Tokens of the prompt, where they are known: it came as tokens.
    pub(super) prompt_tokens: Option<usize>,
    /// The most tokens of the prompt that the caller pays for; None: no limit.
    pub(super) max_prompt_tokens: Option<u32>,
    /// The router's chain of prefix blocks.
    pub(super) blocks: Vec<u64>,
    /// When nobody waits any longer.
    pub(super) deadline: Option<Instant>,
    /// Higher goes first.
    pub(super) priority: i32,
    /// How its answer is read.
    pub(super) reading: Reading,
    // Where in the body the priority stands, as its last field.
    priority_at: Option<usize>,
}

/// How an answer is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// Text that each choice starts with.
    pub(super) echo: Option<String>,
    /// Tool calls are looked for in the text.
    pub(super) calls_in_text: bool,
    /// More than one tool call may come.
    pub(super) parallel_tool_calls: bool,
    /// The tools that may be called. None: whatever is called.
    pub(super) allowed: Option<Arc<[String]>>,
}

// === impl Ask ===

impl Ask {
    /// Writes a request for a server.
    pub(super) fn new(
        request: Request,
        model: &str,
        dialect: Dialect,
        knows_priority: bool,
    ) -> Result<Self, Failure> {
        let prompt_bytes = request.prompt.bytes();
        let mut body = Body::begin(model, prompt_bytes);
        let (endpoint, reading, prompt_tokens) = match &request.prompt {
            Prompt::Chat(chat) => {
                body.chat(chat, request.top_logprobs)?;
                let reading = Reading {
                    echo: None,
                    calls_in_text: dialect.leaves_calls_in_text() && chat.may_call(),
                    parallel_tool_calls: chat.parallel_tool_calls,
                    allowed: chat.allowed(),
                };
                ("/v1/chat/completions", reading, None)
            }
            Prompt::Text { source, echo } => {
                let echo = body.text(source, *echo, request.top_logprobs, dialect)?;
                let reading = Reading {
                    echo,
                    ..Reading::default()
                };
                ("/v1/completions", reading, source.tokens())
            }
        };
        body.stream(dialect);
        body.limits(&request);
        body.sampling(&request.sampling, dialect);
        body.format(request.format.as_ref());
        extra::append(&request.extra_json, &mut body.0);
        if dialect.separates() && !request.cache_salt.is_empty() {
            body.text_field("cache_salt", &request.cache_salt);
        }
        let priority = dialect.priority(request.priority);
        let priority_at = (dialect.separates() && knows_priority && priority != 0).then(|| {
            let at = body.0.len();
            body.field("priority", priority);
            at
        });
        body.0.push(b'}');
        Ok(Self {
            endpoint,
            body: body.0.into(),
            choices: request.choices.get(),
            prompt_bytes,
            prompt_tokens,
            max_prompt_tokens: request.max_prompt_tokens,
            blocks: request.prefix_blocks,
            deadline: request.deadline,
            priority: request.priority,
            reading,
            priority_at,
        })
    }

    /// Takes the priority out of the body. False: there was none.
    pub(super) fn forget_priority(&mut self) -> bool {
        let Some(at) = self.priority_at.take() else {
            return false;
        };
        self.body = [&self.body[..at], b"}"].concat().into();
        true
    }
}

impl Prompt {
    fn bytes(&self) -> usize {
        match self {
            Self::Chat(chat) => chat.messages_json.len() + chat.tools_json.len(),
            Self::Text { source, .. } => match source {
                TextSource::Text(text) => text.len(),
                TextSource::Tokens(ids) => ids.len() * 4,
            },
        }
    }
}

impl TextSource {
    fn tokens(&self) -> Option<usize> {
        match self {
            Self::Text(_) => None,
            Self::Tokens(ids) => Some(ids.len()),
        }
    }
}

impl Chat {
    /// The tools that may be called, where the request names them.
    fn allowed(&self) -> Option<Arc<[String]>> {
        match &self.tool_choice {
            // The engine is shown no tools; a call that it makes all the same is left out.
            ToolChoice::None => Some([].into()),
            ToolChoice::Auto(names) | ToolChoice::Required(names) => {
                (!names.is_empty()).then(|| names.as_slice().into())
            }
        }
    }

    fn may_call(&self) -> bool {
        !self.tools_json.is_empty() && !matches!(self.tool_choice, ToolChoice::None)
    }
}

#[cfg(test)]
mod tests;
