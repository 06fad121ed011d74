//! The engine that computes a model.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The engine that computes a model: exactly one.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// The model runs inside the worker's own process.
    Embedded(EmbeddedEngine),
    /// vLLM in a container of its own beside the worker. Only in a cluster.
    Vllm(ServerEngine),
    /// SGLang in a container of its own beside the worker. Only in a cluster.
    Sglang(ServerEngine),
    /// Any server that speaks OpenAI's API, in a container of its own beside the worker. It must listen
    /// on 127.0.0.1:8000, and finds the weights in /weights. Only in a cluster.
    Openai(ServerEngine),
}

/// Answers that the embedded engine can compute at the same time.
pub const MOST_RUNNING: u16 = 254;

/// Settings of the embedded engine; what is absent is chosen from the model and the machine.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedEngine {
    /// Tokens of one conversation, prompt and answer together; absent: what the model was trained for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 16_777_216))]
    pub context_length: Option<i32>,
    /// Answers that one worker computes at the same time; absent: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_RUNNING))]
    pub max_running: Option<i32>,
    /// Requests that wait in one worker before it refuses more; absent: 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65_536))]
    pub max_queued: Option<i32>,
    /// Tokens that the key-value cache of one worker holds, over all conversations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64))]
    pub kv_tokens: Option<i64>,
    /// Processor threads of one worker; absent: as many as help a model of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<i32>,
}

/// A server in a container beside the worker.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServerEngine {
    /// Its image.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Arguments of the server. For vLLM and SGLang they follow those that the operator sets: model, served name,
    /// address, and the tensor-parallel ranks that they do not name: as many as the accelerators of a worker,
    /// divided by the data-parallel and pipeline-parallel sizes in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "arguments")]
    pub args: Vec<String>,
    /// Environment variables. What is secret comes from a Secret, by `podTemplate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "environment")]
    pub env: BTreeMap<String, String>,
    /// What the server calls the model; absent: for vLLM and SGLang the model's own name, otherwise what
    /// the server lists first.
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

/// What a variable that the operator sets itself is told.
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

/// What a name that no environment can hold is told.
pub const VARIABLE_NAME: &str =
    "expected names of letters, digits and underscores that start with no digit";
