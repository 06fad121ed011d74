//! A body of OpenAI's API becomes a request: only what a timing model can mind is read.

use std::num::NonZeroUsize;

use hyper::body::Bytes;
use inferyard_engine::event::{Failure, FailureKind};
use inferyard_engine::request::{
    Chat, Prompt, Request, ResponseFormat, Sampling, TextSource, ToolChoice,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use twox_hash::XxHash3_64;

/// Bytes of a prefix block.
const BLOCK: usize = 1_024;
/// Most choices of a request.
const MAX_CHOICES: usize = 128;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// What the answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) endpoint: Endpoint,
    pub(super) streamed: bool,
    /// The stream ends with a chunk of usage.
    pub(super) include_usage: bool,
    pub(super) choices: usize,
}

/// A request of a client.
pub(super) struct Ask {
    pub(super) model: String,
    pub(super) request: Request,
    pub(super) shape: Shape,
}

#[derive(Deserialize)]
struct Wire<'a> {
    model: String,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    stop: Option<&'a RawValue>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    n: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    // As vLLM has them.
    priority: Option<i32>,
    cache_salt: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

// === impl Ask ===

impl Ask {
    /// Reads a body.
    pub(super) fn read(endpoint: Endpoint, body: &Bytes) -> Result<Self, Failure> {
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| {
            let message = format!("The body cannot be read: {error}.");
            Failure::new(FailureKind::InvalidRequest, message)
        })?;
        let salt = wire.cache_salt.as_deref().unwrap_or_default();
        let (prompt, prefix_blocks) = match endpoint {
            Endpoint::Chat => chat(&wire, body, salt)?,
            Endpoint::Completions => text(&wire, salt)?,
        };
        let choices = wire.n.unwrap_or(1);
        let choices = NonZeroUsize::new(choices).filter(|n| n.get() <= MAX_CHOICES);
        let choices =
            choices.ok_or_else(|| Failure::invalid("n", "`n` must be between 1 and 128."))?;
        let stop = match wire.stop.map(|raw| parse("stop", raw)).transpose()? {
            None => Vec::new(),
            Some(OneOrMore::One(text)) => vec![text],
            Some(OneOrMore::More(texts)) => texts,
        };
        let format = wire
            .response_format
            .map(|raw| parse("response_format", raw));
        let format = format
            .transpose()?
            .filter(|format: &Typed| format.r#type != "text");
        let options = wire
            .stream_options
            .and_then(|options| options.include_usage);
        Ok(Self {
            shape: Shape {
                endpoint,
                streamed: wire.stream.unwrap_or(false),
                include_usage: options.unwrap_or(false),
                choices: choices.get(),
            },
            request: Request {
                prompt,
                choices,
                max_tokens: wire.max_completion_tokens.or(wire.max_tokens),
                max_prompt_tokens: None,
                sampling: Sampling::default(),
                stop: stop.into_iter().filter(|text| !text.is_empty()).collect(),
                top_logprobs: None,
                format: format.map(|_| ResponseFormat::JsonObject),
                prefix_blocks,
                cache_salt: String::new(),
                deadline: None,
                priority: wire.priority.unwrap_or(0),
                extra_json: Bytes::new(),
            },
            model: wire.model,
        })
    }
}

fn chat(wire: &Wire<'_>, body: &Bytes, salt: &str) -> Result<(Prompt, Vec<u64>), Failure> {
    let messages = wire.messages.map(RawValue::get);
    let messages = messages.filter(|messages| messages.starts_with('['));
    let messages =
        messages.ok_or_else(|| Failure::invalid("messages", "`messages` must be an array."))?;
    let tool_choice = match wire.tool_choice.map(RawValue::get) {
        None | Some("\"auto\"") => ToolChoice::Auto(Vec::new()),
        Some("\"none\"") => ToolChoice::None,
        Some(_) => ToolChoice::Required(Vec::new()),
    };
    let tools = match (&tool_choice, wire.tools) {
        (ToolChoice::None, _) | (_, None) => "",
        (_, Some(tools)) => tools.get(),
    };
    let prefix_blocks = chain(salt, [tools.as_bytes(), messages.as_bytes()]);
    let chat = Chat {
        // Without a copy.
        messages_json: body.slice_ref(messages.as_bytes()),
        tools_json: body.slice_ref(tools.as_bytes()),
        tool_choice,
        parallel_tool_calls: true,
        template_kwargs_json: Bytes::new(),
    };
    Ok((Prompt::Chat(chat), prefix_blocks))
}

fn text(wire: &Wire<'_>, salt: &str) -> Result<(Prompt, Vec<u64>), Failure> {
    let prompt = wire.prompt.map(RawValue::get).unwrap_or_default();
    let source = if prompt.starts_with('[') {
        let ids = serde_json::from_str(prompt);
        TextSource::Tokens(ids.map_err(|_| not_a_prompt())?)
    } else {
        TextSource::Text(serde_json::from_str(prompt).map_err(|_| not_a_prompt())?)
    };
    let prefix_blocks = match &source {
        TextSource::Text(text) => chain(salt, [text.as_bytes()]),
        TextSource::Tokens(_) => Vec::new(),
    };
    let prompt = Prompt::Text {
        source,
        echo: false,
    };
    Ok((prompt, prefix_blocks))
}

fn not_a_prompt() -> Failure {
    Failure::invalid("prompt", "`prompt` must be one text, or the tokens of one.")
}

fn parse<T: DeserializeOwned>(param: &'static str, raw: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get())
        .map_err(|error| Failure::invalid(param, format!("`{param}` cannot be read: {error}.")))
}

/// The hash of every whole block of the texts, each continuing the one before it. What is left of a
/// text counts with the next block.
fn chain<const N: usize>(salt: &str, texts: [&[u8]; N]) -> Vec<u64> {
    let mut hash = XxHash3_64::oneshot(salt.as_bytes());
    let mut blocks = Vec::with_capacity(texts.iter().map(|text| text.len() / BLOCK).sum());
    for text in texts {
        let (whole, rest) = text.as_chunks::<BLOCK>();
        for block in whole {
            hash = XxHash3_64::oneshot_with_seed(hash, block);
            blocks.push(hash);
        }
        hash = XxHash3_64::oneshot_with_seed(hash, rest);
    }
    blocks
}

#[cfg(test)]
mod tests;
