//! `ModelDeployment`: a model, where its weights come from, and how many workers serve it.

mod source;
mod engine;
mod running;
mod template;
mod status;

pub use engine::{
    EmbeddedEngine, Engine, MOST_RUNNING, RESERVED_VARIABLE, ServerEngine, VARIABLE_NAME,
};
pub use running::{
    Accelerators, AccessMode, Availability, CLASS_OR_RESOURCE, EXISTS_WITH_VALUE, NO_WAY_TO_ROLL,
    Rollout, Scaling, Storage, TIME_RANGE, TWO_BUDGETS, TaintEffect, Toleration,
    TolerationOperator, Weights,
};
pub use source::{
    BuiltinModel, BuiltinSource, FileSource, HttpSource, HuggingFaceSource, ImageSource,
    PullPolicy, PvcSource, SecretKey, Source,
};
pub use status::{ConditionType, Loading, ModelDeploymentStatus, Reason};
pub use template::{ChatTemplate, ConfigMapKey};

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[expect(
    clippy::duplicated_attributes,
    reason = "print columns of the same type are not duplicates"
)]
/// A model that is served: what callers name it, where its weights are, how its engine is set and how
/// many workers run it.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "inferyard.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    shortname = "mdep",
    category = "inferyard",
    namespaced,
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    doc = "A model that is served: what callers name it, where its weights are, how its engine is set and how many workers run it.",
    scale(
        spec_replicas_path = ".spec.scaling.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.model"),
    printcolumn(name = "Engine", type_ = "string", json_path = ".status.engine"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].status"
    ),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers"),
    printcolumn(
        name = "Up-to-date",
        type_ = "integer",
        json_path = ".status.updatedReplicas"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.weights) || !has(self.weights.storage) || self.weights.storage.accessMode == 'ReadWriteMany' || self.scaling.replicas <= 1",
        "message": ONE_READER,
    },
    {
        "rule": "!has(self.weights) || !has(self.weights.storage) || has(self.model.source.huggingFace) || has(self.model.source.http)",
        "message": NOTHING_TO_KEEP,
    },
    {
        "rule": "!has(self.engine) || has(self.engine.embedded) || !has(self.model.source.builtin)",
        "message": BUILTIN_IS_EMBEDDED,
    },
    {
        "rule": "!has(self.engine) || has(self.engine.embedded) || !has(self.model.source.file)",
        "message": FILE_IS_EMBEDDED,
    },
]))]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// The model: its names and its weights.
    pub model: ServedModel,
    /// The engine that computes it; absent: the embedded engine with its own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// The Jinja template that makes prompts of conversations; absent: the model's own. Base models have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<ChatTemplate>,
    /// How many workers serve it.
    #[serde(default)]
    pub scaling: Scaling,
    /// Accelerators of each worker; absent: none. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerators: Option<Accelerators>,
    /// Labels that a node must have. Only in a cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that workers tolerate: nodes with these taints may run them. Only in a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Where fetched weights are kept. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// How workers are replaced when something about them changes. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How many workers may be evicted at the same time while nodes are drained. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// A pod template (`metadata`, `spec`) that is laid over the operator's own, for what has no field
    /// here: lists of named things, such as containers (`worker`, `engine`, `fetch`), are merged by name,
    /// null removes a field, everything else replaces. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<Value>,
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

/// What several workers of a volume for one node are told.
pub const ONE_READER: &str = "expected weights.storage.accessMode ReadWriteMany, or at most 1 replica: a ReadWriteOnce volume is mounted on one node only";

/// What a volume without a download is told.
pub const NOTHING_TO_KEEP: &str = "expected weights.storage only with model.source.huggingFace or model.source.http: nothing else is fetched";

/// What a built-in model in another engine is told.
pub const BUILTIN_IS_EMBEDDED: &str =
    "expected the embedded engine for model.source.builtin: leave engine out";

/// What a GGUF file in another engine is told.
pub const FILE_IS_EMBEDDED: &str = "expected the embedded engine for model.source.file; give other engines their weights by huggingFace, pvc or image";

// === impl ModelDeployment ===

impl ModelDeployment {
    /// What callers put into the field `model` of a request.
    #[must_use]
    pub fn model_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.model.name.as_deref().unwrap_or(own)
    }
}

fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
