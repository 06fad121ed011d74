//! A request becomes a job: its prompt is measured, not read.

use inferyard_engine::event::{Failure, FinishReason};
use inferyard_engine::queue;
use inferyard_engine::reply::Reply;
use inferyard_engine::request::{Chat, Prompt, Request, TextSource, ToolChoice, check_price};
use tokio::time::Instant;

use crate::gpu;
use crate::kv::Block;
use crate::words;

/// Bytes of a prompt for one token.
const TOKEN_BYTES: usize = 4;
/// Tokens of a prefix block, which has 1,024 bytes.
const BLOCK_TOKENS: u32 = 256;

/// A conversation without content: what a chat template would add.
const EMPTY_CHAT: &str = r#"[{"role":"user","content":""}]"#;

/// Choices of one request.
pub(crate) const MOST_CHOICES: usize = 128;

/// What a request must stay within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sequences that run together.
    pub(crate) max_running: usize,
    /// Tokens of one sequence; they always fit into the KV cache.
    pub(crate) context_length: u32,
    /// Tokens of an answer for which nobody set a limit.
    pub(crate) answer_tokens: u32,
}

/// A queued request and its reply.
pub(crate) struct Job {
    /// What is to be done.
    pub(crate) prepared: Prepared,
    /// Where the events go.
    pub(crate) reply: Reply,
}

/// A request, measured.
pub(crate) struct Prepared {
    /// The first of its answers; the others are like it.
    pub(crate) job: gpu::Job,
    /// How many answers.
    pub(crate) choices: usize,
    /// Why an answer ends that nobody has stopped.
    pub(crate) reason: FinishReason,
    /// Texts that end an answer.
    pub(crate) stop: Vec<String>,
    /// Log probabilities: of how many alternatives.
    pub(crate) top_logprobs: Option<usize>,
    /// Text that each answer starts with.
    pub(crate) echo: Option<String>,
    /// When nobody waits any longer.
    pub(crate) deadline: Option<Instant>,
}

struct Measured {
    tokens: usize,
    param: &'static str,
    echo: Option<String>,
}

// === impl Job ===

impl queue::Job for Job {
    fn prompt_tokens(&self) -> usize {
        self.prepared.job.prompt_tokens as usize
    }

    fn deadline(&self) -> Option<Instant> {
        self.prepared.deadline
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }
}

// === impl Limits ===

impl Limits {
    /// Checks and measures a request.
    pub(crate) fn prepare(&self, request: Request) -> Result<Prepared, Failure> {
        let most = self.max_running.min(MOST_CHOICES);
        if request.choices.get() > most {
            return Err(Failure::too_many_choices(most));
        }
        if request.format.is_some() {
            let message = "The simulated engine writes no JSON.";
            return Err(Failure::invalid("response_format", message));
        }
        let max_prompt_tokens = request.max_prompt_tokens;
        let measured = measure(request.prompt)?;
        let too_long = || {
            let most = self.context_length as usize;
            Failure::too_long(measured.param, measured.tokens, most)
        };
        let prompt_tokens = u32::try_from(measured.tokens).map_err(|_| too_long())?;
        if prompt_tokens >= self.context_length {
            return Err(too_long());
        }
        check_price(max_prompt_tokens, prompt_tokens)?;
        let left = self.context_length - prompt_tokens;
        let asked = request.max_tokens;
        let wanted = asked.map_or(self.answer_tokens, |most| {
            u32::try_from(most).unwrap_or(u32::MAX)
        });
        let answer_tokens = wanted.min(left);
        let complete = asked.is_none() && answer_tokens == self.answer_tokens;
        let block = |hash| Block {
            hash,
            tokens: BLOCK_TOKENS,
        };
        Ok(Prepared {
            job: gpu::Job {
                // The simulation assigns it when the request starts.
                id: 0,
                priority: request.priority,
                blocks: request.prefix_blocks.into_iter().map(block).collect(),
                prompt_tokens,
                answer_tokens,
            },
            choices: request.choices.get(),
            reason: if complete {
                FinishReason::Stop
            } else {
                FinishReason::Length
            },
            stop: request.stop,
            top_logprobs: request.top_logprobs,
            echo: measured.echo,
            deadline: request.deadline,
        })
    }
}

/// Tokens that the template of the simulated model adds to a conversation.
pub(crate) fn template_tokens() -> u32 {
    u32::try_from(EMPTY_CHAT.len() / TOKEN_BYTES).unwrap_or(u32::MAX)
}

fn measure(prompt: Prompt) -> Result<Measured, Failure> {
    let of_bytes = |bytes: usize| (bytes / TOKEN_BYTES).max(1);
    match prompt {
        Prompt::Chat(chat) => {
            check_tools(&chat)?;
            Ok(Measured {
                tokens: of_bytes(chat.messages_json.len() + chat.tools_json.len()),
                param: "messages",
                echo: None,
            })
        }
        Prompt::Text { source, echo } => {
            let (tokens, echo) = match source {
                // An empty text is the beginning of a document: one token.
                TextSource::Text(text) => (of_bytes(text.len()), echo.then_some(text)),
                TextSource::Tokens(ids) => (ids.len(), echo.then(|| words::text(&ids))),
            };
            if tokens == 0 {
                return Err(Failure::invalid("prompt", "The prompt must not be empty."));
            }
            Ok(Measured {
                tokens,
                param: "prompt",
                echo,
            })
        }
    }
}

fn check_tools(chat: &Chat) -> Result<(), Failure> {
    match chat.tool_choice {
        ToolChoice::Required(_) => {
            let message = "The simulated engine calls no tools: it writes no JSON.";
            Err(Failure::invalid("tool_choice", message))
        }
        ToolChoice::None | ToolChoice::Auto(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
