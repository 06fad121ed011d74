//! The fields of a request that the router does not know, as far as an engine may have them.
//!
//! They come from the callers of a shared service. Servers have fields that load other weights, open
//! files, choose whose cache is read, or change what an answer looks like; so what passes is a list,
//! and everything else is left out, as OpenAI's API leaves out what it does not know.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// They change how tokens are chosen or what shape the answer has, and nothing outside of it.
pub(crate) const PASSED: [&str; 37] = [
    "add_special_tokens",
    "allowed_token_ids",
    "bad_words",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dynatemp_exponent",
    "dynatemp_range",
    "ebnf",
    "frequency_context_size",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "include_stop_str_in_output",
    "json_schema",
    "length_penalty",
    "min_tokens",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "no_stop_trim",
    "presence_context_size",
    "regex",
    "repeat_last_n",
    "repetition_context_size",
    "separate_reasoning",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_token_ids",
    "structured_outputs",
    "thinking_budget",
    "thinking_token_budget",
    "typical_p",
];

/// Appends the fields that pass, each with a comma before it. Bytes that are no JSON object add
/// nothing.
pub(crate) fn append(extra_json: &[u8], body: &mut Vec<u8>) {
    if extra_json.is_empty() {
        return;
    }
    let start = body.len();
    let mut deserializer = serde_json::Deserializer::from_slice(extra_json);
    if deserializer.deserialize_map(Append(body)).is_err() {
        body.truncate(start);
    }
}

struct Append<'b>(&'b mut Vec<u8>);

impl<'de> Visitor<'de> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut said = [false; PASSED.len()];
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            let value = fields.next_value::<&RawValue>()?;
            let Ok(at) = PASSED.binary_search(&name.as_ref()) else {
                continue;
            };
            if std::mem::replace(&mut said[at], true) {
                continue;
            }
            self.0.extend_from_slice(b",\"");
            self.0.extend_from_slice(PASSED[at].as_bytes());
            self.0.extend_from_slice(b"\":");
            self.0.extend_from_slice(value.get().as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(extra: &str) -> String {
        let mut body = b"{".to_vec();
        append(extra.as_bytes(), &mut body);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn the_list_can_be_searched() {
        assert!(PASSED.is_sorted());
    }

    #[test]
    fn only_what_is_on_the_list_passes_and_only_once() {
        assert_eq!(
            passed(
                r#"{"structured_outputs": {"regex":"a"},"cache_salt":"theirs","priority":-9,
                    "min_\u0074okens":3,"adapters":"/etc","min_tokens":4,"model":"other"}"#
            ),
            r#"{,"structured_outputs":{"regex":"a"},"min_tokens":3"#
        );
        // Fields of servers that replace the template, load weights, fetch addresses or move caches.
        for name in [
            "adapters",
            "cache_salt",
            "chat_template",
            "chat_template_kwargs",
            "custom_logit_processor",
            "documents",
            "extra_body",
            "id_slot",
            "kv_transfer_params",
            "logits_processors",
            "lora_path",
            "media_io_kwargs",
            "messages",
            "mm_processor_kwargs",
            "priority",
            "vllm_xargs",
        ] {
            assert_eq!(
                passed(&format!(r#"{{"{name}":{{"chat_template":"x"}}}}"#)),
                "{"
            );
        }
        assert_eq!(passed(""), "{");
        assert_eq!(passed("[1]"), "{");
        assert_eq!(passed(r#"{"min_tokens":3,"#), "{");
    }
}
