//! What a server says when it does not answer becomes a failure in our own words.
//!
//! Its text is looked at for what kind of failure it is, and goes no further: it may quote the
//! prompt, name files of the machine, or speak of flags that no caller can set.

use hyper::StatusCode;
use inferyard_engine::event::{Failure, FailureKind};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An error's body is not longer.
pub(crate) const MAX_BODY: usize = 64 << 10;

/// Why a server does not answer.
pub(crate) enum Refusal {
    /// It takes no priorities.
    Priority,
    /// All others.
    Failure(Failure),
}

/// The forms of an error: OpenAI's, older servers' without a wrapper, a text alone.
#[derive(Default, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

/// What a text says, as far as it is known.
const KNOWN: [(&[&str], Meaning); 10] = [
    (
        &[
            "exceed_context_size",
            "context_length_exceeded",
            "maximum context length",
            "context length",
            "exceeds the available context",
            "maximum model length",
            "max_model_len",
            "input is too long",
            "longer than the model",
        ],
        Meaning::TooLong,
    ),
    (&["loading model"], Meaning::Loading),
    (
        &["priority is disabled", "riority scheduling"],
        Meaning::Priority,
    ),
    (
        &[
            "tool-call-parser",
            "auto-tool-choice",
            "--jinja",
            "tool_call_parser",
            "tool parser",
        ],
        Meaning::Wrong("tools", "This model is served without tool calls."),
    ),
    (
        &["multimodal", "image", "audio", "video"],
        Meaning::Wrong("messages", "This model reads only text here."),
    ),
    (
        &["chat template", "chat_template"],
        Meaning::Wrong(
            "messages",
            "This model's chat template cannot render this conversation.",
        ),
    ),
    (
        &[
            "response_format",
            "json schema",
            "json_schema",
            "grammar",
            "guided",
            "regex",
        ],
        Meaning::Wrong(
            "response_format",
            "This model's engine cannot enforce this format.",
        ),
    ),
    (
        &["tool_choice"],
        Meaning::Wrong(
            "tool_choice",
            "This model's engine cannot do this `tool_choice`.",
        ),
    ),
    (
        &["logprobs"],
        Meaning::Wrong(
            "top_logprobs",
            "This model's engine tells fewer log probabilities, or none.",
        ),
    ),
    (
        &["logit_bias", "vocab"],
        Meaning::Wrong("logit_bias", "A token is not in this model's vocabulary."),
    ),
];

/// Fields that a refusal may be about.
const FIELDS: [&str; 12] = [
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "tools",
    "messages",
];

#[derive(Clone, Copy)]
enum Meaning {
    TooLong,
    Loading,
    Priority,
    Wrong(&'static str, &'static str),
}

/// Reads an answer that is none.
pub(crate) fn of_status(status: StatusCode, body: &[u8], context_length: u32) -> Refusal {
    let told = text(body);
    let kind = match status.as_u16() {
        400 | 413 | 422 => return wrong(&told, context_length),
        503 if told.contains("loading model") => FailureKind::Loading,
        408 | 429 | 503 => FailureKind::Overloaded,
        _ => FailureKind::Internal,
    };
    let message = format!("the engine answered with status {}", status.as_u16());
    Refusal::Failure(Failure::new(kind, message))
}

/// Reads an error that came instead of a chunk.
pub(crate) fn of_chunk(error: &[u8], context_length: u32) -> Failure {
    let told = text(error);
    let status = code(error);
    let said_wrong = status.is_some_and(|status| (400..500).contains(&status) && status != 429);
    match wrong(&told, context_length) {
        Refusal::Failure(failure) if said_wrong => failure,
        Refusal::Failure(failure) if failure.kind == FailureKind::ContextLengthExceeded => failure,
        _ if matches!(status, Some(429 | 503)) => {
            Failure::new(FailureKind::Overloaded, "the engine takes no more requests")
        }
        _ => Failure::new(FailureKind::Internal, "the engine reported an error"),
    }
}

fn wrong(told: &str, context_length: u32) -> Refusal {
    let known = KNOWN
        .iter()
        .find(|(words, _)| words.iter().any(|word| told.contains(word)));
    let failure = match known.map(|(_, meaning)| *meaning) {
        Some(Meaning::Priority) => return Refusal::Priority,
        Some(Meaning::TooLong) => too_long(context_length),
        Some(Meaning::Loading) => Failure::new(FailureKind::Loading, "the engine loads its model"),
        Some(Meaning::Wrong(param, message)) => Failure::invalid(param, message),
        None => match FIELDS.iter().find(|field| told.contains(*field)) {
            Some(field) => {
                let message = format!("This model's engine does not take this value of `{field}`.");
                Failure::invalid(*field, message)
            }
            None => Failure::new(
                FailureKind::InvalidRequest,
                "This model's engine does not take this request. Leave out fields that are not part \
                 of OpenAI's API, and try again.",
            ),
        },
    };
    Refusal::Failure(failure)
}

fn too_long(context_length: u32) -> Failure {
    let most = match context_length {
        0 => String::new(),
        length => format!(" of {length} tokens"),
    };
    let message = format!(
        "The prompt and the tokens asked for exceed this model's context{most}. Please reduce the \
         length of the messages or `max_tokens`."
    );
    Failure {
        param: Some("messages".into()),
        ..Failure::new(FailureKind::ContextLengthExceeded, message)
    }
}

/// All that a body says, in small letters.
fn text(body: &[u8]) -> String {
    let told: Told = serde_json::from_slice(body).unwrap_or_default();
    let raw = told.error.or(told.message).map(RawValue::get);
    match raw {
        Some(raw) => raw.to_lowercase(),
        None => String::from_utf8_lossy(body).to_lowercase(),
    }
}

/// The status that an error names.
fn code(error: &[u8]) -> Option<u16> {
    let told: Told = serde_json::from_slice(error).ok()?;
    match (told.code, told.error) {
        (Some(code), _) => code.get().trim_matches('"').parse().ok(),
        (None, Some(inner)) => code(inner.get().as_bytes()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
