//! What becomes of each field, and the checks of those that change nothing.

use super::cursor::Kind;
use super::fields::{Field, Fields, check_length, members, shortened};
use super::{Api, Length, Param, ReadError};

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

/// The most pairs of `metadata`, and the longest key and value in characters.
const METADATA: (usize, usize, usize) = (16, 64, 512);

/// The fields of an endpoint.
pub(super) fn table(api: Api) -> &'static [(&'static str, Policy)] {
    match api {
        Api::Chat => CHAT,
        Api::Completions => COMPLETIONS,
    }
}

/// Refuses what is not served, and checks what changes nothing.
pub(super) fn check(fields: &Fields) -> Result<(), ReadError> {
    for (name, policy, field) in fields.policies() {
        match policy {
            Honoured => {}
            Accept(accepted) => check_accepted(fields, name, accepted, field)?,
            Refused(hint) => {
                let param = Param::new(name);
                return Err(ReadError::UnsupportedParameter { param, hint });
            }
        }
    }
    Ok(())
}

fn check_accepted(
    fields: &Fields,
    name: &'static str,
    accepted: Accepted,
    field: &Field,
) -> Result<(), ReadError> {
    match accepted {
        Text(longest) => fields.string(name, longest).map(drop),
        OneOf(values) => fields.one_of(name, values).map(drop),
        Object if field.kind == Kind::Object => Ok(()),
        Object => Err(ReadError::wrong_type(name, "an object", field.kind)),
        Metadata => check_metadata(field.kind, fields.text(field)),
        Store if fields.boolean(name)? == Some(true) => Err(ReadError::UnsupportedValue {
            param: Param::new(name),
            hint: "answers are never kept here. Leave it out or send false.".to_owned(),
        }),
        Store => Ok(()),
        Modalities
            if fields
                .text(field)
                .windows(7)
                .any(|part| part == b"\"audio\"") =>
        {
            Err(ReadError::UnsupportedValue {
                param: Param::new(name),
                hint: "answers are text. Leave it out or send [\"text\"].".to_owned(),
            })
        }
        Modalities if field.kind == Kind::Array => Ok(()),
        Modalities => Err(ReadError::wrong_type(
            name,
            "an array of strings",
            field.kind,
        )),
    }
}

fn check_metadata(kind: Kind, text: &[u8]) -> Result<(), ReadError> {
    if kind != Kind::Object {
        return Err(ReadError::wrong_type(
            "metadata",
            "an object of strings",
            kind,
        ));
    }
    let (most, longest_key, longest_value) = METADATA;
    let mut count = 0;
    members(text, |cursor, key| {
        count += 1;
        let path = || format!("metadata.{}", shortened(&key.decoded()));
        check_length(&path(), &key.decoded(), longest_key)?;
        let kind = cursor.kind()?;
        if kind != Kind::String {
            return Err(ReadError::wrong_type(path(), "a string", kind).into());
        }
        Ok(check_length(
            &path(),
            &cursor.string()?.decoded(),
            longest_value,
        )?)
    })?;
    if count > most {
        return Err(ReadError::Length {
            param: Param::new("metadata"),
            of: Length::ManyProperties,
            problem: format!(
                "too many properties. Expected an object with at most {most} properties, but got \
                 an object with {count} properties instead."
            ),
        });
    }
    Ok(())
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
