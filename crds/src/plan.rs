//! `Plan`: what the keys on it may do.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the API keys on this plan may do.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "inferyard.dev",
    version = "v1alpha1",
    kind = "Plan",
    plural = "plans",
    category = "inferyard",
    namespaced,
    doc = "What the API keys on this plan may do.",
    printcolumn(name = "Models", type_ = "string", json_path = ".spec.models"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// Names of the models that may be used; absent: all. An alias is open with its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::model_names")]
    pub models: Option<Vec<String>>,
    /// Where requests of several plans wait for the same worker, the higher priority goes first.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
}
