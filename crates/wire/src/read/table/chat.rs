//! The fields of `/v1/chat/completions`.

use super::FieldType::{
    Boolean, Decimal, Integer, Metadata, Modalities, Object, OneOf, Store, Structure, Text,
};
use super::{
    CHOICES, FieldSpec, MODEL, PENALTY, SHARE, TIERS, accepted, honoured, refused, tokens,
};

const CACHED: &str = "prefixes are cached in any case, within an account";
const FUNCTIONS: &str = "use `tools` and `tool_choice`";

/// Sorted by name.
pub(super) const FIELDS: &[FieldSpec] = &[
    refused(
        "audio",
        "is not served here: answers are text.",
        "answers are text",
    ),
    honoured(
        "chat_template_kwargs",
        Object,
        "variables for the model's chat template; names that the server sets itself (`messages`, `tools`, `chat_template`, `tokenize`, …) are a 400 at `chat_template_kwargs.NAME`",
    ),
    honoured("frequency_penalty", PENALTY, ""),
    refused(
        "function_call",
        "is deprecated: use 'tool_choice' instead.",
        FUNCTIONS,
    ),
    refused(
        "functions",
        "is deprecated: use 'tools' instead.",
        FUNCTIONS,
    ),
    honoured(
        "logit_bias",
        Structure("object of up to 1,024 token ids and numbers from -100 to 100"),
        "",
    ),
    honoured("logprobs", Boolean, ""),
    honoured("max_completion_tokens", tokens(1), "wins over `max_tokens`"),
    honoured("max_tokens", tokens(1), ""),
    honoured("messages", Structure("array of messages"), "see below"),
    accepted("metadata", Metadata, ""),
    honoured("min_p", SHARE, "as in vLLM"),
    accepted("modalities", Modalities, ""),
    honoured(
        "model",
        MODEL,
        "a name or an alias; answers echo the one that was sent",
    ),
    refused(
        "moderation",
        "is not served here: moderate before or after the request.",
        "",
    ),
    honoured("n", CHOICES, ""),
    honoured("parallel_tool_calls", Boolean, ""),
    accepted("prediction", Object, "a hint for speed, not used"),
    honoured("presence_penalty", PENALTY, ""),
    accepted("prompt_cache_key", Text(1_024), CACHED),
    accepted("prompt_cache_options", Object, CACHED),
    accepted("prompt_cache_retention", Text(64), CACHED),
    honoured(
        "reasoning_effort",
        OneOf(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        "as the variable `reasoning_effort` of the model's chat template; `none` also sets `enable_thinking` to false",
    ),
    honoured("repetition_penalty", Decimal(0.01, 100.0), "as in vLLM"),
    honoured(
        "response_format",
        Structure("`text`, `json_object` or `json_schema`"),
        "[a schema is always enforced](#schemas), with or without `strict`. With `tools` and `tool_choice` `auto`, an answer is tool calls or a text of this format",
    ),
    accepted("safety_identifier", Text(64), ""),
    honoured(
        "seed",
        Integer(i64::MIN as i128, i64::MAX as i128),
        "see below",
    ),
    accepted(
        "service_tier",
        TIERS,
        "there is one tier; answers say `default`",
    ),
    honoured(
        "stop",
        Structure("string, or array of up to 4 strings, of 1 to 1,024 characters"),
        "`[]` is none. Stop texts are looked for in the content only: they never cut a tool call or reasoning",
    ),
    accepted("store", Store, "nothing is kept"),
    honoured("stream", Boolean, ""),
    honoured(
        "stream_options",
        Object,
        "`include_usage`; other options change nothing. Without `stream` it is a 400",
    ),
    honoured("temperature", Decimal(0.0, 2.0), ""),
    honoured(
        "tool_choice",
        Structure("`none`, `auto`, `required`, a named function, `allowed_tools`"),
        "With `none` the tools are checked, but the model does not see them. A tool outside `allowed_tools` is never called, in either mode. The model still reads of it, so that the cached prompt stays the same; a server beside the worker is shown the allowed tools only, and a call of another one is left out of its answer",
    ),
    honoured(
        "tools",
        Structure("array of up to 128 functions"),
        "Custom tools are refused. See [schemas](#schemas)",
    ),
    honoured(
        "top_k",
        Integer(-1, i32::MAX as i128),
        "as in vLLM; -1 or 0 turns it off",
    ),
    honoured("top_logprobs", Integer(0, 20), "needs `logprobs: true`"),
    honoured("top_p", SHARE, ""),
    accepted("user", Text(1_024), ""),
    accepted("verbosity", OneOf(&["low", "medium", "high"]), ""),
    refused(
        "web_search_options",
        "is not served here: offer a search function in 'tools'.",
        "offer a search function in `tools`",
    ),
];
