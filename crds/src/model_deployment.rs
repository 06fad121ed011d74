//! `ModelDeployment`: a model, where its weights come from, and how many workers serve it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model that is served: what callers name it, where its weights are, how its engine is set and how
/// many workers run it.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "inferyard.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    shortname = "mdep",
    category = "inferyard",
    namespaced,
    doc = "A model that is served: what callers name it, where its weights are, how its engine is set and how many workers run it.",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.scaling.replicas"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// The model: its names and its weights.
    pub model: ServedModel,
    /// The engine that computes it; absent: the embedded engine with its own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// How many workers serve it.
    #[serde(default)]
    pub scaling: Scaling,
}

/// A model: its names and its weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// What callers put into the field `model` of a request; absent: `metadata.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::model_name")]
    pub name: Option<String>,
    /// Other names by which callers reach it, such as the name of the model that it replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::model_names")]
    pub aliases: Vec<String>,
    /// Where the weights come from: exactly one of the sources.
    pub source: Source,
}

/// Where the weights of a model come from.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A model that ships with Inferyard: it needs no download and means the same everywhere.
    Builtin(BuiltinSource),
    /// A file on the machine of the worker.
    File(FileSource),
}

/// A model that ships with Inferyard.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BuiltinSource {
    /// Which one.
    pub name: BuiltinModel,
}

/// The models that ship with Inferyard.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinModel {
    /// A tiny chat model for trying out and for tests.
    Demo,
}

/// A file on the machine of the worker.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FileSource {
    /// Path of a GGUF file. A path that does not start with `/` is taken from the folder of the
    /// manifest, or from the current folder where the manifest has none.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// The engine that computes a model.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// The model runs inside the worker's own process.
    Embedded(EmbeddedEngine),
}

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
    #[schemars(range(min = 1, max = 255))]
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

/// How many workers serve a model.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Workers, each with its own copy of the model.
    #[serde(default = "Scaling::one_replica")]
    #[schemars(range(min = 1, max = 1024))]
    pub replicas: i32,
}

// === impl Scaling ===

impl Scaling {
    fn one_replica() -> i32 {
        1
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            replicas: Self::one_replica(),
        }
    }
}
