//! The fields of each endpoint's body, and what becomes of each.

use super::Api;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Changes the answer.
    Honoured,
    /// Asks for nothing that would change the answer: of the right type, it is accepted.
    Accepted(Accepted),
    /// Asks for what is not served; the hint completes "Unsupported parameter: 'x' …".
    Refused(&'static str),
}

/// The type of an accepted field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    Text(usize),
    OneOf(&'static [&'static str]),
    Object,
    Metadata,
    /// The answer is not kept; only `false` is true.
    Store,
    /// Text is the only modality.
    Modalities,
}

use Accepted::{Metadata, Modalities, Object, OneOf, Store, Text};
use Policy::{Accepted as Accept, Honoured, Refused};

const TIERS: Policy = Accept(OneOf(&[
    "auto", "default", "flex", "scale", "priority", "fast",
]));

/// The fields of `/v1/chat/completions`, sorted by name.
const CHAT: &[(&str, Policy)] = &[
    ("audio", Refused("is not served here: answers are text.")),
    ("chat_template_kwargs", Honoured),
    ("frequency_penalty", Honoured),
    (
        "function_call",
        Refused("is deprecated: use 'tool_choice' instead."),
    ),
    ("functions", Refused("is deprecated: use 'tools' instead.")),
    ("logit_bias", Honoured),
    ("logprobs", Honoured),
    ("max_completion_tokens", Honoured),
    ("max_tokens", Honoured),
    ("messages", Honoured),
    ("metadata", Accept(Metadata)),
    ("min_p", Honoured),
    ("modalities", Accept(Modalities)),
    ("model", Honoured),
    (
        "moderation",
        Refused("is not served here: moderate before or after the request."),
    ),
    ("n", Honoured),
    ("parallel_tool_calls", Honoured),
    ("prediction", Accept(Object)),
    ("presence_penalty", Honoured),
    ("prompt_cache_key", Accept(Text(1_024))),
    ("prompt_cache_options", Accept(Object)),
    ("prompt_cache_retention", Accept(Text(64))),
    ("reasoning_effort", Honoured),
    ("repetition_penalty", Honoured),
    ("response_format", Honoured),
    ("safety_identifier", Accept(Text(64))),
    ("seed", Honoured),
    ("service_tier", TIERS),
    ("stop", Honoured),
    ("store", Accept(Store)),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("temperature", Honoured),
    ("tool_choice", Honoured),
    ("tools", Honoured),
    ("top_k", Honoured),
    ("top_logprobs", Honoured),
    ("top_p", Honoured),
    ("user", Accept(Text(1_024))),
    ("verbosity", Accept(OneOf(&["low", "medium", "high"]))),
    (
        "web_search_options",
        Refused("is not served here: offer a search function in 'tools'."),
    ),
];

/// The fields of `/v1/completions`, sorted by name.
const COMPLETIONS: &[(&str, Policy)] = &[
    ("best_of", Honoured),
    ("echo", Honoured),
    ("frequency_penalty", Honoured),
    ("logit_bias", Honoured),
    ("logprobs", Honoured),
    ("max_tokens", Honoured),
    ("min_p", Honoured),
    ("model", Honoured),
    ("n", Honoured),
    ("presence_penalty", Honoured),
    ("prompt", Honoured),
    ("repetition_penalty", Honoured),
    ("response_format", Honoured),
    ("seed", Honoured),
    ("service_tier", TIERS),
    ("stop", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    (
        "suffix",
        Refused("is not served here: the models only continue a prompt."),
    ),
    ("temperature", Honoured),
    ("top_k", Honoured),
    ("top_p", Honoured),
    ("user", Accept(Text(1_024))),
];

/// The fields of an endpoint.
pub(super) fn of(api: Api) -> &'static [(&'static str, Policy)] {
    match api {
        Api::Chat => CHAT,
        Api::Completions => COMPLETIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(CHAT.is_sorted_by(|one, other| one.0 < other.0));
        assert!(COMPLETIONS.is_sorted_by(|one, other| one.0 < other.0));
    }

    #[test]
    fn every_field_is_documented() {
        let page = include_str!("../../../docs/openai-compatibility.md");
        let (chat, completions) = page.split_once("## Fields of `/v1/completions`").unwrap();
        for (part, table) in [(chat, CHAT), (completions, COMPLETIONS)] {
            for (name, policy) in table {
                let word = match policy {
                    Honoured => "| honoured |",
                    Accept(_) => "| accepted |",
                    Refused(_) => "| refused |",
                };
                let field = format!("`{name}`");
                let is_row = |line: &str| line.contains(word) && line.contains(&field);
                assert!(part.lines().any(is_row), "{name}");
            }
        }
    }
}
