//! The variables that a caller may give the chat template: all but those that engines set themselves, and
//! those that are arguments of the function that renders it.
//!
//! vLLM and SGLang hand the object over as keyword arguments. A caller could replace the template itself
//! with it, and have code of its own run for every token (CVE-2025-62426), or make the call fail.

use std::borrow::Cow;
use std::fmt;

use inferyard_engine::event::Failure;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

const PARAM: &str = "chat_template_kwargs";

macro_rules! refused {
    ($($name:literal),* $(,)?) => {
        [$(($name, concat!("chat_template_kwargs.", $name))),*]
    };
}

/// Names that are refused on every engine, and the parameter that the refusal names.
const REFUSED: [(&str, &str); 24] = refused![
    "add_generation_prompt",
    "add_special_tokens",
    "bos_token",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "conversation",
    "eos_token",
    "max_length",
    "messages",
    "model_config",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "self",
    "tokenize",
    "tokenizer",
    "tokenizer_kwargs",
    "tools",
    "truncation",
    "trust_remote_code",
    "hf_chat_template",
    "mm_processor_kwargs",
];

/// Refuses variables that no caller may set.
pub(super) fn check(kwargs_json: &[u8]) -> Result<(), Failure> {
    if kwargs_json.is_empty() {
        return Ok(());
    }
    let mut json = serde_json::Deserializer::from_slice(kwargs_json);
    let refused = json.deserialize_map(Names).and_then(|refused| {
        json.end()?;
        Ok(refused)
    });
    match refused {
        Ok(None) => Ok(()),
        Ok(Some((name, param))) => {
            let message =
                format!("'{name}' is set by the server; please leave it out of '{PARAM}'.");
            Err(Failure::invalid(param, message))
        }
        Err(_) => Err(Failure::invalid(
            PARAM,
            format!("'{PARAM}' must be an object."),
        )),
    }
}

/// Finds the first refused name of an object.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Option<(&'static str, &'static str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            fields.next_value::<IgnoredAny>()?;
            let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
            found = found.or(refused.copied());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(json: &str) -> Option<&'static str> {
        check(json.as_bytes())
            .err()
            .and_then(|failure| failure.param)
            .map(|param| match param {
                Cow::Borrowed(param) => param,
                Cow::Owned(_) => "",
            })
    }

    #[test]
    fn variables_of_templates_pass() {
        for json in [
            "",
            "{}",
            r#"{"enable_thinking":false,"documents":[{"tools":1}]}"#,
        ] {
            assert_eq!(param(json), None, "{json}");
        }
    }

    #[test]
    fn what_an_engine_sets_itself_is_refused_by_name() {
        for (name, path) in REFUSED {
            assert_eq!(param(&format!(r#"{{"a":{{}},"{name}":null}}"#)), Some(path));
        }
        let escaped = r#"{"chat\u005ftemplate":"{{ 7*7 }}","messages":[]}"#;
        assert_eq!(param(escaped), Some("chat_template_kwargs.chat_template"));
        let twice = r#"{"enable_thinking":true,"tokenize":1,"tokenize":false}"#;
        assert_eq!(param(twice), Some("chat_template_kwargs.tokenize"));
        for json in ["[]", "{", "{} {}", "7"] {
            assert_eq!(param(json), Some(PARAM), "{json}");
        }
    }
}
