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

use crate::request_id::RequestId;

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

/// A checked request for tokens that is not [bound](Parsed::bind) to its caller yet.
#[derive(Debug)]
pub(crate) struct Parsed(Generation);

/// A request for tokens. Only [`Parsed::bind`] makes one, so it carries its caller's salt, id and priority.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The model that answers.
    model: Arc<Model>,
    /// How the client wants its answer.
    response: ResponseSpec,
    /// For the worker; complete but for `deadline_ms`.
    request: GenerateRequest,
}

/// How a client wants its answer.
#[derive(Debug)]
pub(crate) struct ResponseSpec {
    /// The name that the client used for the model; answers echo it.
    pub(crate) requested_model: Arc<str>,
    /// How the answer is streamed; `None`: it is one JSON body.
    pub(crate) stream: Option<StreamOptions>,
    /// What the encoders must know of the request.
    pub(crate) shape: Shape,
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
) -> Result<Parsed, ReadError> {
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
    let response = ResponseSpec {
        requested_model,
        stream,
        shape: Shape {
            api,
            choices,
            logprobs: top_logprobs,
        },
    };
    Ok(Parsed(Generation {
        model,
        response,
        request,
    }))
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
    /// The model that answers.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// For the worker; complete but for `deadline_ms`.
    pub(crate) fn request(&self) -> &GenerateRequest {
        &self.request
    }

    /// Model, request, and how the client wants its answer.
    pub(crate) fn into_parts(self) -> (Arc<Model>, GenerateRequest, ResponseSpec) {
        (self.model, self.request, self.response)
    }
}

// === impl Parsed ===

impl Parsed {
    /// The model that answers.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.0.model
    }

    /// The name that the client used for it.
    pub(crate) fn requested_model(&self) -> &str {
        &self.0.response.requested_model
    }

    /// Binds the caller: its account, which salts the chain of prefix blocks so that no account shares cached prefixes
    /// with another; the id; and the priority of its plan.
    pub(crate) fn bind(self, account: &str, id: RequestId, priority: i32) -> Generation {
        let Self(mut generation) = self;
        let request = &mut generation.request;
        account.clone_into(&mut request.cache_salt);
        request.prefix_blocks = prefix::chain(request);
        id.as_str().clone_into(&mut request.request_id);
        request.priority = priority;
        generation
    }
}

#[cfg(test)]
mod tests;
