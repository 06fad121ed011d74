//! `ModelDeployment`: a served model, the source of its weights, its engine and its workers.

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
/// A served model: its names, the source of its weights, its engine, and the number and placement of its workers.
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
    doc = "A served model: its names, the source of its weights, its engine, and the number and placement of its workers.",
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
    /// Names of the model, and the source of its weights.
    pub model: ServedModel,
    /// Engine that runs the model. Default: the embedded engine with default settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Jinja template that renders conversations into prompts. Default: the template of the model. Base models have no
    /// template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<ChatTemplate>,
    /// Number of workers.
    #[serde(default)]
    pub scaling: Scaling,
    /// Accelerators of each worker. Default: none. Only used in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerators: Option<Accelerators>,
    /// Labels that a node must have to run workers. Default: none. Limit: 32 labels. Only used in a cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that workers tolerate, so that they may run on nodes with these taints. Default: none. Limit: 32. Only
    /// used in a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Storage of downloaded weights. Only used in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// How workers are replaced after a change of this declaration. Only used in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// PodDisruptionBudget and priority of the workers. Only used in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// Patch of the pod template (`metadata` and `spec`) of the workers, for settings that have no field here. Maps are
    /// merged by key. Lists are merged by the key that Kubernetes declares, such as the name of a container (`worker`,
    /// `engine`, `fetch`). A null removes a field. Every other value replaces the one of the operator. Unknown fields
    /// are refused. Only used in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<Value>,
}

/// The names of a model, and the source of its weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// Name of the model in requests (field `model`). Default: `metadata.name`. Limit: 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::model_name")]
    pub name: Option<String>,
    /// Other names of the model in requests, such as the name of the model that it replaces. Default: none. Limit: 64
    /// names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::model_names")]
    pub aliases: Vec<String>,
    /// Source of the weights: set exactly one of the fields.
    pub source: Source,
}

/// The message for several workers on a volume of one node.
pub const ONE_READER: &str = "expected weights.storage.accessMode ReadWriteMany, or at most 1 replica: a ReadWriteOnce volume is mounted on one node only";

/// The message for a volume without a download.
pub const NOTHING_TO_KEEP: &str = "expected weights.storage only with model.source.huggingFace or model.source.http: nothing else is fetched";

/// The message for a built-in model with another engine.
pub const BUILTIN_IS_EMBEDDED: &str =
    "expected the embedded engine for model.source.builtin: leave engine out";

/// The message for a GGUF file with another engine.
pub const FILE_IS_EMBEDDED: &str = "expected the embedded engine for model.source.file; give other engines their weights by huggingFace, pvc or image";

// === impl ModelDeployment ===

impl ModelDeployment {
    /// The name of the model in requests (field `model`).
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
