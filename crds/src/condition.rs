//! `Condition`, and the status of plans and keys.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition of a resource, in the standard form of Kubernetes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Condition type in CamelCase, such as `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Status of the condition: `True`, `False` or `Unknown`.
    #[schemars(length(min = 1, max = 16))]
    pub status: String,
    /// Machine-readable reason of the status, in CamelCase. The documentation lists all reasons.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Human-readable reason of the status.
    #[serde(default)]
    #[schemars(length(max = 32_768))]
    pub message: String,
    /// Time of the last change of `status`.
    #[schemars(schema_with = "crate::moment")]
    pub last_transition_time: Time,
    /// `metadata.generation` that this condition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The observed state of a plan. The operator writes it.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// The condition `Accepted`: whether the plan is allowed and the models that it names exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::conditions")]
    pub conditions: Vec<Condition>,
}

/// The observed state of a key. The operator writes it.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// `metadata.generation` that this status describes.
    #[serde(default)]
    pub observed_generation: i64,
    /// SHA-256 of the key in the Secret of `spec.secret`. Routers compare it with the hash of the key in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::hash::sha256")]
    pub hash: Option<String>,
    /// Hashes that belong to this key. Another ApiKey that declares one of them later does not get it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::hash::some_sha256")]
    pub hashes: Vec<String>,
    /// The condition `Accepted`: whether the plan exists and the hash is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::conditions")]
    pub conditions: Vec<Condition>,
}

/// Schema of a list of conditions. The list is a map by type, so that several writers do not overwrite each other.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": generator.subschema_for::<Condition>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
