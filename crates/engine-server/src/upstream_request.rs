//! A request becomes the body for the server: the client's own bytes, and our fields.

mod body;

use std::sync::Arc;

use bytes::Bytes;
use inferyard_engine::event::Failure;
use inferyard_engine::request::{Chat, Prompt, Request, TextSource, ToolChoice};
use tokio::time::Instant;

use crate::dialect::Dialect;
use crate::extra;

use body::Body;

/// A request, ready to be sent.
pub(crate) struct UpstreamRequest {
    /// The path that it is sent to.
    pub(crate) endpoint: &'static str,
    /// The body.
    pub(crate) body: Bytes,
    /// How many answers.
    pub(crate) choices: usize,
    /// Bytes of the prompt.
    pub(crate) prompt_bytes: usize,
    /// Tokens of the prompt, if it came as tokens.
    pub(crate) prompt_tokens: Option<usize>,
    /// The most tokens of the prompt that the caller pays for; None: no limit.
    pub(crate) max_prompt_tokens: Option<u32>,
    /// The router's chain of prefix blocks.
    pub(crate) blocks: Vec<u64>,
    /// When the request fails unless it is complete.
    pub(crate) deadline: Option<Instant>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// How its answer is read.
    pub(crate) options: ReadOptions,
    // Offset of the priority in the body; it is the last field.
    priority_at: Option<usize>,
}

/// How an answer is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadOptions {
    /// Text that each choice starts with.
    pub(crate) echo: Option<String>,
    /// Tool calls are looked for in the text.
    pub(crate) calls_in_text: bool,
    /// More than one tool call may come.
    pub(crate) parallel_tool_calls: bool,
    /// The tools that may be called. None: whatever is called.
    pub(crate) allowed: Option<Arc<[String]>>,
}

// === impl UpstreamRequest ===

impl UpstreamRequest {
    /// Writes a request for a server.
    pub(crate) fn new(
        request: Request,
        model: &str,
        dialect: Dialect,
        knows_priority: bool,
    ) -> Result<Self, Failure> {
        let prompt_bytes = prompt_bytes(&request.prompt);
        let mut body = Body::begin(model, prompt_bytes);
        let (endpoint, options, prompt_tokens) = match &request.prompt {
            Prompt::Chat(chat) => {
                body.chat(chat, request.top_logprobs)?;
                let options = ReadOptions {
                    echo: None,
                    calls_in_text: dialect.leaves_calls_in_text() && may_call(chat),
                    parallel_tool_calls: chat.parallel_tool_calls,
                    allowed: allowed_tools(chat),
                };
                ("/v1/chat/completions", options, None)
            }
            Prompt::Text { source, echo } => {
                let echo = body.text(source, *echo, request.top_logprobs, dialect)?;
                let options = ReadOptions {
                    echo,
                    ..ReadOptions::default()
                };
                ("/v1/completions", options, token_count(source))
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
            options,
            priority_at,
        })
    }

    /// Takes the priority out of the body. False: there was none.
    pub(crate) fn forget_priority(&mut self) -> bool {
        let Some(at) = self.priority_at.take() else {
            return false;
        };
        self.body = [&self.body[..at], b"}"].concat().into();
        true
    }
}

/// Bytes of a prompt, as the router cuts them into prefix blocks.
fn prompt_bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Chat(chat) => chat.messages_json.len() + chat.tools_json.len(),
        Prompt::Text { source, .. } => match source {
            TextSource::Text(text) => text.len(),
            TextSource::Tokens(ids) => ids.len() * 4,
        },
    }
}

/// Tokens of a prompt that came as token ids.
fn token_count(source: &TextSource) -> Option<usize> {
    match source {
        TextSource::Text(_) => None,
        TextSource::Tokens(ids) => Some(ids.len()),
    }
}

/// The tools that may be called, if the request names them.
fn allowed_tools(chat: &Chat) -> Option<Arc<[String]>> {
    match &chat.tool_choice {
        // The engine is shown no tools; a call that it makes all the same is left out.
        ToolChoice::None => Some([].into()),
        ToolChoice::Auto(names) | ToolChoice::Required(names) => {
            (!names.is_empty()).then(|| names.as_slice().into())
        }
    }
}

fn may_call(chat: &Chat) -> bool {
    !chat.tools_json.is_empty() && !matches!(chat.tool_choice, ToolChoice::None)
}

#[cfg(test)]
mod tests;
