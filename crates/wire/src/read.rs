//! Step 3: parses and checks a request body; pure.
//!
//! The body is walked once. `messages`, `tools` and schemas are checked in place and stay slices of the body;
//! only small fields become values. `docs/openai-compatibility.md` lists for every field of OpenAI's API
//! whether it is honoured, accepted or refused.

use std::sync::Arc;

use bytes::Bytes;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::tool_choice::Mode;
use inferyard_proto::worker::v1::{ChatPrompt, GenerateRequest};

use inferyard_catalog::{Catalog, Model, Plan};

use inferyard_domain::{Account, RequestId};

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
mod error;

pub use error::{Length, NumberKind, Param, ReadError};
use fields::Fields;

/// The endpoint of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// A checked request that is not [bound](Parsed::bind) to its caller yet.
#[derive(Debug)]
pub struct Parsed(Generation);

/// A request for generation. Only [`Parsed::bind`] creates one, so it always carries the caller's cache salt,
/// id and priority.
#[derive(Debug)]
pub struct Generation {
    /// The model that serves the request.
    model: Arc<Model>,
    /// The form of the answer.
    response: ResponseSpec,
    /// The request to the worker, complete except for `deadline_ms`.
    request: GenerateRequest,
}

/// The form of the answer that a client asked for.
#[derive(Debug)]
pub struct ResponseSpec {
    /// The model's name in the request, which answers repeat.
    pub requested_model: Arc<str>,
    /// Options of the stream; `None`: the answer is one JSON body.
    pub stream: Option<StreamOptions>,
    /// What the encoders need to know.
    pub shape: Shape,
}

/// Options of a streamed answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Whether the last chunk contains the usage.
    pub include_usage: bool,
}

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The endpoint, which determines the objects of the answer.
    pub api: Api,
    /// Number of choices, at least 1.
    pub choices: u32,
    /// `Some`: log probabilities are requested, with this number of likely tokens beside the produced one.
    pub logprobs: Option<u32>,
}

/// Parses a body, and checks it against the endpoint's fields and the plan's models. Errors contain the text
/// for the caller.
pub fn read(api: Api, body: &Bytes, catalog: &Catalog, plan: &Plan) -> Result<Parsed, ReadError> {
    let fields = Fields::read(api, body)?;
    let (requested_model, model) = model(&fields, catalog, plan)?;
    policy::check(&fields)?;
    let (prompt, top_logprobs) = match api {
        Api::Chat => (chat(&fields)?, sampling::chat_logprobs(&fields)?),
        Api::Completions => completions::prompt(&fields)?,
    };
    let choices = fields.integer("n")?.unwrap_or(1);
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

/// Finds the requested model. A model outside the plan gets the same error as an unknown one.
fn model(
    fields: &Fields,
    catalog: &Catalog,
    plan: &Plan,
) -> Result<(Arc<str>, Arc<Model>), ReadError> {
    let name = {
        let name = fields.string("model")?;
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
    // `none`: the tools are checked but not passed on, because a model that sees tools calls them despite the
    // instruction.
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
    /// The model that serves the request.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The request to the worker, complete except for `deadline_ms`.
    pub fn request(&self) -> &GenerateRequest {
        &self.request
    }

    /// The model, the request to the worker, and the form of the answer.
    pub fn into_parts(self) -> (Arc<Model>, GenerateRequest, ResponseSpec) {
        (self.model, self.request, self.response)
    }
}

// === impl Parsed ===

impl Parsed {
    /// The model that serves the request.
    pub fn model(&self) -> &Arc<Model> {
        &self.0.model
    }

    /// The model's name in the request.
    pub fn requested_model(&self) -> &str {
        &self.0.response.requested_model
    }

    /// Binds the request to its caller: the account, which salts the prefix blocks so that accounts share no
    /// cached prefixes, the request id, and the priority of the plan.
    pub fn bind(self, account: &Account, id: RequestId, priority: i32) -> Generation {
        let Self(mut generation) = self;
        let request = &mut generation.request;
        (**account).clone_into(&mut request.cache_salt);
        request.prefix_blocks = inferyard_proto::prefix::chain(request);
        id.as_str().clone_into(&mut request.request_id);
        request.priority = priority;
        generation
    }
}

#[cfg(test)]
mod tests;
