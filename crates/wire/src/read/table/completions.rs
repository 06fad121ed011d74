//! The fields of `/v1/completions`.

use super::FieldType::{Boolean, Decimal, Integer, Object, Structure, Text};
use super::{
    CHOICES, FieldSpec, MODEL, PENALTY, SHARE, TIERS, accepted, honoured, refused, tokens,
};

const AS_ABOVE: &str = "as above";

/// Sorted by name.
pub(super) const FIELDS: &[FieldSpec] = &[
    honoured("best_of", CHOICES, "only the value of `n`"),
    honoured("echo", Boolean, "not together with `logprobs`"),
    honoured("frequency_penalty", PENALTY, ""),
    honoured(
        "logit_bias",
        Structure("object of up to 1,024 token ids and numbers from -100 to 100"),
        "",
    ),
    honoured("logprobs", Integer(0, 5), ""),
    honoured("max_tokens", tokens(0), "16 if absent, as at OpenAI"),
    honoured("min_p", SHARE, AS_ABOVE),
    honoured("model", MODEL, AS_ABOVE),
    honoured("n", CHOICES, ""),
    honoured("presence_penalty", PENALTY, ""),
    honoured(
        "prompt",
        Structure("string or token ids, alone or as an array of one"),
        "`\"\"` is the beginning of a new document, as at OpenAI: the prompt is the model's first token; an engine beside the worker may refuse it. `[]` is a 400. Several prompts in one request are refused. It is the whole prompt, without a chat template: control tokens that it spells are control tokens, as in vLLM, SGLang and llama.cpp, so keep texts of others that may spell them out of it",
    ),
    honoured("repetition_penalty", Decimal(0.01, 100.0), AS_ABOVE),
    honoured(
        "response_format",
        Structure("`text`, `json_object` or `json_schema`"),
        AS_ABOVE,
    ),
    honoured(
        "seed",
        Integer(i64::MIN as i128, i64::MAX as i128),
        AS_ABOVE,
    ),
    accepted("service_tier", TIERS, AS_ABOVE),
    honoured(
        "stop",
        Structure("string, or array of up to 4 strings, of 1 to 1,024 characters"),
        AS_ABOVE,
    ),
    honoured("stream", Boolean, ""),
    honoured("stream_options", Object, AS_ABOVE),
    refused(
        "suffix",
        "is not served here: the models only continue a prompt.",
        "the models only continue a prompt",
    ),
    honoured("temperature", Decimal(0.0, 2.0), ""),
    honoured("top_k", Integer(-1, i32::MAX as i128), AS_ABOVE),
    honoured("top_p", SHARE, ""),
    accepted("user", Text(1_024), ""),
];
