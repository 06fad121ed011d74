//! The engine that runs a model: the embedded one, or a server in a sidecar container.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The engine that runs a model. Set exactly one of the fields.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// The embedded engine (llama.cpp), which runs inside of the worker process and reads GGUF files.
    Embedded(EmbeddedEngine),
    /// vLLM in a sidecar container of the worker. Only in a cluster.
    Vllm(ServerEngine),
    /// SGLang in a sidecar container of the worker. Only in a cluster.
    Sglang(ServerEngine),
    /// Any server with the OpenAI API in a sidecar container of the worker. The server must listen on 127.0.0.1:8000.
    /// The weights are mounted at /weights. Only in a cluster.
    Openai(ServerEngine),
}

/// The highest number of answers that the embedded engine can generate at the same time.
pub const MOST_RUNNING: u16 = 254;

/// Settings of the embedded engine.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedEngine {
    /// Context length in tokens: the most that the prompt and the answer of one request have together. Default: the
    /// context length that the model was trained with, but at most `kvTokens`. Limits: 64 to 16777216.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 16_777_216))]
    pub context_length: Option<i32>,
    /// Number of answers that one worker generates at the same time. Default: 16. Limits: 1 to 254.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_RUNNING))]
    pub max_running: Option<i32>,
    /// Number of requests that wait in the queue of one worker. The worker refuses further ones. Default: 256. Limits:
    /// 0 to 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65_536))]
    pub max_queued: Option<i32>,
    /// Size of the key-value cache of one worker in tokens, over all requests. Default: 16384, or
    /// `contextLength` if that is larger. Limit: at least 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64))]
    pub kv_tokens: Option<i64>,
    /// Number of CPU threads of one worker. Default: chosen from the size of the model and the number of cores. Limits:
    /// 1 to 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<i32>,
}

/// A server in a sidecar container of the worker.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServerEngine {
    /// Image of the container. Limit: 1024 characters.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Arguments of the server. For vLLM and SGLang the operator puts its own arguments before them: the model, the
    /// served name, the address, and the tensor-parallel size if these arguments do not set it. That size is the number
    /// of accelerators of a worker, divided by the data-parallel and pipeline-parallel sizes in these arguments.
    /// Default: none. Limit: 128 arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "arguments")]
    pub args: Vec<String>,
    /// Environment variables of the container. For secret values, reference a Secret in `podTemplate`. Default: none.
    /// Limit: 64 variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "environment")]
    pub env: BTreeMap<String, String>,
    /// Name of the model in the API of the server. Default: for vLLM and SGLang the name of the model in requests; for
    /// other servers the first model that the server lists. Limit: 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub served_model_name: Option<String>,
}

fn arguments(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array", "maxItems": 128,
        "items": { "type": "string", "maxLength": 8192 },
    })
}

/// The message for a variable that the operator sets itself.
pub const RESERVED_VARIABLE: &str = "expected other variables than HOME, TMPDIR and XDG_CACHE_HOME, which point to where the engine may write";

fn environment(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 8192 },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",
                "message": VARIABLE_NAME,
            },
            {
                "rule": "self.all(name, !(name in ['HOME', 'TMPDIR', 'XDG_CACHE_HOME']))",
                "message": RESERVED_VARIABLE,
            },
        ],
    })
}

/// The message for an invalid name of an environment variable.
pub const VARIABLE_NAME: &str =
    "expected names of letters, digits and underscores that start with no digit";
