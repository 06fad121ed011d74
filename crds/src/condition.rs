//! `Condition`: one thing that is said of a resource, for people and for tools that wait.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that is said of a resource, in the form that all Kubernetes resources share.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// `True`, `False`, or `Unknown`.
    #[schemars(length(min = 1, max = 16))]
    pub status: String,
    /// Why, in one word of a closed set.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    #[schemars(length(max = 32_768))]
    pub message: String,
    /// Since when `status` is what it is.
    #[schemars(schema_with = "crate::moment")]
    pub last_transition_time: Time,
    /// The generation of the resource that this was said of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The state of a plan, which the operator writes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// The generation that the conditions speak of.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Accepted`: whether all that it names exists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::conditions")]
    pub conditions: Vec<Condition>,
}

/// The state of a key, which the operator writes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// The generation that the conditions speak of.
    #[serde(default)]
    pub observed_generation: i64,
    /// SHA-256 of the key in `spec.secret`, which routers compare with what callers send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::hash::sha256")]
    pub hash: Option<String>,
    /// The hashes by which callers are known as this key's. Another key that names one of them later does not get it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::hash::some_sha256")]
    pub hashes: Vec<String>,
    /// `Accepted`: whether its plan exists and its hash is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::conditions")]
    pub conditions: Vec<Condition>,
}

/// Schema of conditions: one for each type, so that several writers do not overwrite each other's.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": generator.subschema_for::<Condition>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
