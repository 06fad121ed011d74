//! A request becomes a job: rendered, tokenized, checked against the model; nothing is computed yet.

mod fit;
mod shape;

use std::sync::Arc;

use inferyard_chat::grammar::{Preamble, Shape};
use inferyard_chat::output::{self, OutputFormat};
use inferyard_engine::event::Failure;
use inferyard_engine::request::{
    Chat, Prompt, Request, ResponseFormat, TextSource, ToolChoice, check_price,
};

use crate::job::{Grammar, Prepared};
use crate::kv::{Block, Token};
use crate::load::Model;
use crate::tokenize::Text;

use shape::Wanted;
pub(crate) use shape::schemas;

/// The router cuts the prompt's bytes into blocks of this size.
const BLOCK_BYTES: usize = 1024;
/// From this size on a prompt is rendered and tokenized where it blocks no other request.
const BIG_PROMPT: usize = 16 * 1024;

/// What the preparation of a request asks and tells between two pieces of work.
pub(crate) struct Attempt<'a> {
    /// Whether somebody still waits for the request; the failure says why not.
    pub(crate) go_on: &'a dyn Fn() -> Result<(), Failure>,
    /// So many bytes are tokenized next.
    pub(crate) tokenizes: &'a dyn Fn(usize),
}

/// The prompt's part of a job.
struct PromptTokens {
    tokens: Vec<Token>,
    // Bytes that the router's blocks were cut from.
    bytes: usize,
    format: OutputFormat,
    shape: Option<(Shape, Preamble)>,
    echo: Option<String>,
}

// === impl Model ===

impl Model {
    /// Whether preparing the request takes long enough to delay other requests on the same thread.
    pub(crate) fn is_big(&self, request: &Request) -> bool {
        let compiles = match &request.prompt {
            Prompt::Chat(chat) => match &chat.tool_choice {
                ToolChoice::None => false,
                ToolChoice::Required(_) => true,
                ToolChoice::Auto(names) => {
                    let known = || self.knows_tools(&chat.tools_json);
                    !chat.tools_json.is_empty() && (!names.is_empty() || !known())
                }
            },
            Prompt::Text { .. } => false,
        };
        compiles || request.format.is_some() || request.prompt.input_bytes() > BIG_PROMPT
    }

    /// Renders, tokenizes and checks a request, for as long as its attempt goes on.
    pub(crate) fn prepare(
        &self,
        request: Request,
        attempt: &Attempt<'_>,
    ) -> Result<Prepared, Failure> {
        self.check(&request)?;
        let max_prompt_tokens = request.max_prompt_tokens;
        let prompt = match request.prompt {
            Prompt::Chat(chat) => self.chat(&chat, request.format, attempt)?,
            Prompt::Text { source, echo } => self.text(source, echo, request.format, attempt)?,
        };
        let PromptTokens {
            tokens,
            bytes,
            mut format,
            shape,
            echo,
        } = prompt;
        check_price(
            max_prompt_tokens,
            u32::try_from(tokens.len()).unwrap_or(u32::MAX),
        )?;
        format.stop = request.stop;
        let grammar = match shape {
            Some((shape, preamble)) => {
                (attempt.go_on)()?;
                let guide = self.compile(&shape, preamble)?;
                let param = shape.param();
                Some(Grammar { guide, param })
            }
            None => None,
        };
        let controls = output::markers(format.tools, format.reasoning)
            .filter_map(|marker| self.control(marker))
            .collect();
        let context_left = self.limits.context_length - tokens.len();
        Ok(Prepared {
            blocks: blocks(&request.prefix_blocks, tokens.len(), bytes),
            tokens,
            salt: Arc::from(request.cache_salt),
            format,
            controls,
            grammar,
            sampling: Arc::new(request.sampling),
            top_logprobs: request.top_logprobs,
            // An answer that would not fit ends at the end of the context.
            max_tokens: request.max_tokens.unwrap_or(context_left).min(context_left),
            choices: request.choices.get(),
            deadline: request.deadline,
            priority: request.priority,
            echo,
        })
    }

    fn check(&self, request: &Request) -> Result<(), Failure> {
        let most = self.limits.max_running;
        if request.choices.get() > most {
            return Err(Failure::too_many_choices(most));
        }
        let size = self.vocabulary_size();
        if let Some((token, _)) = request
            .sampling
            .logit_bias
            .iter()
            .find(|(token, _)| *token as usize >= size)
        {
            let message = format!(
                "Token {token} is not in this model's vocabulary, whose tokens are 0 to {}.",
                size - 1
            );
            return Err(Failure::invalid("logit_bias", message));
        }
        Ok(())
    }

    fn chat(
        &self,
        chat: &Chat,
        format: Option<ResponseFormat>,
        attempt: &Attempt<'_>,
    ) -> Result<PromptTokens, Failure> {
        let template = self
            .template
            .as_ref()
            .map_err(|error| Failure::invalid("model", error.clone()))?;
        self.check_tools(chat, template.tool_format(), attempt)?;
        let rendered = self.render(template, chat, attempt)?;
        let text = Text::Rendered {
            text: &rendered.text,
            plain: &rendered.plain,
        };
        let tokens = self.tokens(text, "messages", attempt)?;
        let wanted = Wanted::new(chat, format, template.tool_format())?;
        let reasoning = template.reasoning_format();
        let preamble = match reasoning {
            None => Preamble::None,
            Some(format) if rendered.reasoning_open => Preamble::Open(format),
            Some(format) => Preamble::Possible(format),
        };
        let format = OutputFormat {
            stop: Vec::new(),
            tools: wanted.tools,
            parallel_tool_calls: chat.parallel_tool_calls,
            allowed_tools: wanted.allowed,
            calls_or_content: matches!(wanted.shape, Some(Shape::CallsOrJson(..))),
            reasoning,
            reasoning_open: rendered.reasoning_open,
        };
        let bytes = chat.tools_json.len() + chat.messages_json.len();
        Ok(PromptTokens {
            tokens,
            bytes,
            format,
            shape: wanted.shape.map(|shape| (shape, preamble)),
            echo: None,
        })
    }

    fn text(
        &self,
        source: TextSource,
        echo: bool,
        format: Option<ResponseFormat>,
        attempt: &Attempt<'_>,
    ) -> Result<PromptTokens, Failure> {
        let (tokens, bytes, echo) = match source {
            TextSource::Text(text) => (
                match text.as_str() {
                    "" => self.beginning(),
                    text => self.tokens(Text::Written(text), "prompt", attempt)?,
                },
                text.len(),
                echo.then_some(text),
            ),
            TextSource::Tokens(ids) => {
                self.check_length(ids.len(), "prompt")?;
                let tokens = self.known(&ids)?;
                let text = echo.then(|| {
                    let bytes: Vec<u8> =
                        ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
                    String::from_utf8_lossy(&bytes).into_owned()
                });
                // Ids have no bytes that the router could cut blocks from.
                (tokens, 0, text)
            }
        };
        if tokens.is_empty() {
            return Err(Failure::invalid("prompt", "The prompt must not be empty."));
        }
        let shape = format.map(|format| (Shape::Json(shape::schema(format)), Preamble::None));
        Ok(PromptTokens {
            tokens,
            bytes,
            format: OutputFormat::default(),
            shape,
            echo,
        })
    }
}

/// How many tokens of the prompt each block covers.
///
/// The blocks are cut from the request's JSON, the tokens from the rendered prompt; where in the
/// prompt a byte of the JSON ends up is not known. Both run in the same order, so the mapping is
/// proportional.
fn blocks(hashes: &[u64], tokens: usize, bytes: usize) -> Arc<[Block]> {
    let bytes = bytes.max(1);
    let covered = |index: usize| (BLOCK_BYTES * (index + 1)).min(bytes);
    let block = |(index, hash): (usize, &u64)| Block {
        hash: *hash,
        end: (tokens * covered(index)).div_ceil(bytes),
    };
    hashes.iter().enumerate().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_prompt_in_proportion() {
        let ends = |tokens, bytes, count: u64| {
            let hashes: Vec<u64> = (0..count).collect();
            blocks(&hashes, tokens, bytes)
                .iter()
                .map(|block| block.end)
                .collect::<Vec<_>>()
        };
        assert_eq!(ends(1_000, 4_096, 4), [250, 500, 750, 1_000]);
        assert_eq!(ends(10, 3_000, 2), [4, 7]);
        assert_eq!(ends(5, 0, 1), [5]);
    }
}
