//! Step 3: the bytes of a body become a checked request; pure.
//!
//! The body is walked once. `messages`, `tools` and schemas are checked in place and stay slices of
//! it; only small fields become values. `docs/openai-compatibility.md` says for every field of
//! OpenAI's whether it is honoured, accepted or refused.

use std::sync::Arc;

use bytes::Bytes;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::tool_choice::Mode;
use inferyard_proto::worker::v1::{ChatPrompt, GenerateRequest};

use inferyard_catalog::{Catalog, Model, Plan};

mod cursor;
mod text;
mod length;
mod walk;
mod number;
mod table;
mod messages;
mod fields;
mod policy;
mod schema;
mod tools;
mod format;
mod sampling;
mod completions;
mod prefix;
mod error;

pub(crate) use error::{Length, NumberKind, Param, ReadError};
use fields::Fields;
pub(crate) use prefix::BLOCK as PREFIX_BLOCK;
#[cfg(test)]
pub(crate) use prefix::chain as prefix_chain;

/// The endpoint that the request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// A checked request for tokens.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The model that answers.
    pub(crate) model: Arc<Model>,
    /// The name that the client used for it; answers echo it.
    pub(crate) requested_model: Arc<str>,
    /// How the answer is streamed; `None`: it is one JSON body.
    pub(crate) stream: Option<StreamOptions>,
    /// What the encoders must know of the request.
    pub(crate) shape: Shape,
    /// For the worker; complete but for `request_id`, `deadline_ms`, `priority` and what
    /// [`Generation::salt`] adds.
    pub(crate) request: GenerateRequest,
}

/// How an answer is streamed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// The last chunk brings the usage.
    pub(crate) include_usage: bool,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The endpoint; each has its own objects.
    pub(crate) api: Api,
    /// How many choices the answer has, at least 1.
    pub(crate) choices: u32,
    /// Log probabilities are wanted, and of how many likely tokens beside the produced one.
    pub(crate) logprobs: Option<u32>,
}

/// Checks a body against the fields of the endpoint and the models that the plan may use.
pub(crate) fn read(
    api: Api,
    body: &Bytes,
    catalog: &Catalog,
    plan: &Plan,
) -> Result<Generation, ReadError> {
    let fields = Fields::read(api, body)?;
    let (requested_model, model) = model(&fields, catalog, plan)?;
    policy::check(&fields)?;
    let (prompt, top_logprobs) = match api {
        Api::Chat => (chat(&fields)?, sampling::chat_logprobs(&fields)?),
        Api::Completions => completions::prompt(&fields)?,
    };
    let choices = fields.integer("n", 1..=128)?.unwrap_or(1);
    completions::check_best_of(&fields, choices)?;
    let stream = stream(&fields)?;
    let request = GenerateRequest {
        model: model.name.to_string(),
        prompt: Some(prompt),
        choices,
        max_tokens: sampling::max_tokens(api, &fields)?,
        sampling: Some(sampling::sampling(&fields)?),
        stop: sampling::stop(&fields)?,
        top_logprobs,
        response_format: format::response_format(&fields)?,
        extra_json: fields.unknown(),
        ..GenerateRequest::default()
    };
    Ok(Generation {
        model,
        requested_model,
        stream,
        shape: Shape {
            api,
            choices,
            logprobs: top_logprobs,
        },
        request,
    })
}

/// A model that is not on the plan answers as one that does not exist.
fn model(
    fields: &Fields,
    catalog: &Catalog,
    plan: &Plan,
) -> Result<(Arc<str>, Arc<Model>), ReadError> {
    let name = {
        let name = fields.string("model", 256)?;
        name.ok_or_else(|| ReadError::Missing {
            param: Param::new("model"),
        })?
    };
    match catalog.model(plan, &name) {
        Some(model) => Ok((name.into(), Arc::clone(model))),
        None => Err(ReadError::UnknownModel { model: name }),
    }
}

fn chat(fields: &Fields) -> Result<Prompt, ReadError> {
    let messages_json = fields.required_array("messages")?;
    let tools = tools::tools(fields)?;
    let tool_choice = tools::tool_choice(fields, &tools.names)?;
    // A model that sees tools calls them, whatever it was told. They are checked all the same.
    let are_shown = tool_choice
        .as_ref()
        .is_none_or(|choice| choice.mode() != Mode::None);
    Ok(Prompt::Chat(ChatPrompt {
        messages_json,
        tool_choice,
        tools_json: if are_shown { tools.json } else { Bytes::new() },
        parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        template_kwargs_json: format::template_kwargs(fields)?,
    }))
}

fn stream(fields: &Fields) -> Result<Option<StreamOptions>, ReadError> {
    let options = fields.stream_options()?;
    match (fields.boolean("stream")?.unwrap_or(false), options) {
        (true, options) => Ok(Some(options.unwrap_or_default())),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(ReadError::Conflict {
            param: Param::new("stream_options"),
            problem: "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        }),
    }
}

// === impl Generation ===

impl Generation {
    /// Separates the cached prefixes of this account from those of others, and computes the chain
    /// of prefix blocks, which starts from that salt.
    pub(crate) fn salt(&mut self, account: &str) {
        account.clone_into(&mut self.request.cache_salt);
        self.request.prefix_blocks = prefix::chain(&self.request);
    }
}

#[cfg(test)]
mod tests;
