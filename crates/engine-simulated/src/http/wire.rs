//! What answers of OpenAI's API have in common: their head, their usage, and errors.

use std::fmt::Write as _;

use hyper::{Response, StatusCode};
use inferyard_engine::event::{Failure, FailureKind, FinishReason, Usage};
use serde_json::json;

use super::ask::Endpoint;
use super::{Content, json};

/// What every part of an answer says of it.
pub(super) struct Head {
    /// Without the prefix that tells its kind.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
}

// === impl Head ===

impl Head {
    /// The beginning of an object, up to and with its model.
    pub(super) fn open(&self, endpoint: Endpoint, streamed: bool) -> String {
        let (prefix, object) = match (endpoint, streamed) {
            (Endpoint::Chat, true) => ("chatcmpl-", "chat.completion.chunk"),
            (Endpoint::Chat, false) => ("chatcmpl-", "chat.completion"),
            (Endpoint::Completions, _) => ("cmpl-", "text_completion"),
        };
        let Self { id, created, model } = self;
        let model = serde_json::Value::from(model.as_str());
        format!(
            "{{\"id\":\"{prefix}{id}\",\"object\":\"{object}\",\"created\":{created},\"model\":{model}"
        )
    }
}

/// Appends an object.
pub(super) fn usage(usage: Usage, out: &mut String) {
    let Usage {
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        ..
    } = usage;
    let total = u64::from(prompt_tokens) + u64::from(completion_tokens);
    let written = write!(
        out,
        "{{\"prompt_tokens\":{prompt_tokens},\"completion_tokens\":{completion_tokens},\
         \"total_tokens\":{total},\"prompt_tokens_details\":{{\"cached_tokens\":{cached_tokens}}}}}"
    );
    written.expect("a text should take what is written into it");
}

/// OpenAI's word for the end of a choice.
pub(super) fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// The object of an error.
pub(super) fn error(failure: &Failure) -> String {
    let caller = status(failure.kind).is_client_error();
    let error = json!({
        "message": failure.message,
        "type": if caller { "invalid_request_error" } else { "server_error" },
        "param": failure.param,
        "code": failure.kind.label(),
    });
    json!({ "error": error }).to_string()
}

/// The response to a request that is not answered.
pub(super) fn refusal(failure: &Failure) -> Response<Content> {
    json(status(failure.kind), error(failure))
}

/// The response to a path that is not here.
pub(super) fn unknown() -> Response<Content> {
    let message = "There is nothing here: POST /v1/chat/completions, POST /v1/completions.";
    let failure = Failure::new(FailureKind::InvalidRequest, message);
    json(StatusCode::NOT_FOUND, error(&failure))
}

fn status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::InvalidRequest
        | FailureKind::ContextLengthExceeded
        | FailureKind::PromptTooExpensive => StatusCode::BAD_REQUEST,
        FailureKind::UnknownModel => StatusCode::NOT_FOUND,
        FailureKind::Overloaded | FailureKind::Loading | FailureKind::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        FailureKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::SlowReader
        | FailureKind::Internal
        | FailureKind::Cancelled
        | FailureKind::EngineCrashed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
