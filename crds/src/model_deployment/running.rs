//! How workers run in a cluster: where, how many of them, and how they are replaced.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many workers serve a model.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Workers, each with its own copy of the model. 0 stops the model and keeps its declaration.
    #[serde(default = "Scaling::one_replica")]
    #[schemars(range(min = 0, max = 1024))]
    pub replicas: i32,
}

/// Accelerators of each worker.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.class) != has(self.resourceName)",
    "message": CLASS_OR_RESOURCE,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Accelerators {
    /// A class of accelerators that the operator knows: `nvidia`, `amd`, or one that it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::object_name")]
    pub class: Option<String>,
    /// Instead of a class: the resource that nodes advertise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_name")]
    pub resource_name: Option<String>,
    /// How many each worker gets.
    #[serde(default = "Accelerators::one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: i32,
}

/// What accelerators without, or with two, kinds are told.
pub const CLASS_OR_RESOURCE: &str =
    "expected exactly one of class (such as nvidia) or resourceName (such as nvidia.com/gpu)";

/// A taint of nodes that workers accept.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
    "message": EXISTS_WITH_VALUE,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint; absent, with the operator Exists: every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,
    /// How the value is compared; absent: Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint; absent: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// What a toleration that ignores its own value is told.
pub const EXISTS_WITH_VALUE: &str = "expected no value with the operator Exists";

/// How the value of a taint is compared.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TolerationOperator {
    /// The values are equal.
    Equal,
    /// Any value.
    Exists,
}

/// What a taint does.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// New pods only where there is no other place.
    PreferNoSchedule,
    /// No pods, also not those that run.
    NoExecute,
}

/// Where fetched weights are kept.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// A volume that outlives the pods, so that only the first worker fetches; absent: each pod fetches
    /// into a folder of its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// A volume for weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// How much it holds.
    #[schemars(schema_with = "quantity")]
    pub size: String,
    /// The class that provides it; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::object_name")]
    pub storage_class_name: Option<String>,
    /// Who may mount it; absent: ReadWriteOnce, the pods of one node.
    #[serde(default)]
    pub access_mode: AccessMode,
}

/// Who may mount a volume.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// The pods of one node.
    #[default]
    ReadWriteOnce,
    /// The pods of all nodes.
    ReadWriteMany,
}

/// How workers are replaced when something about them changes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.maxSurge) || !has(self.maxUnavailable) || !(string(self.maxSurge) in ['0', '0%']) || !(string(self.maxUnavailable) in ['0', '0%'])",
    "message": NO_WAY_TO_ROLL,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Workers, or a share of them, that run beyond the wanted number meanwhile; absent: 1, or 0 where workers
    /// have accelerators, or a volume for weights lets only one pod in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_surge: Option<IntOrString>,
    /// Workers, or a share of them, that may be missing meanwhile; absent: 0, or 1 where `maxSurge` is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_unavailable: Option<IntOrString>,
    /// How long a worker that is asked to stop may go on with the answers it has begun. It stops as soon
    /// as there are none; absent: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub drain_timeout: Option<String>,
}

/// What a rollout that could not begin is told.
pub const NO_WAY_TO_ROLL: &str =
    "expected maxSurge or maxUnavailable above 0: with both at 0 no worker could ever be replaced";

/// How many workers of a model may be evicted while nodes are drained.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.maxUnavailable) || !has(self.minAvailable)",
    "message": TWO_BUDGETS,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Availability {
    /// Workers, or a share of them, that may be evicted at the same time; absent, as `minAvailable`: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_unavailable: Option<IntOrString>,
    /// Workers, or a share of them, that must stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub min_available: Option<IntOrString>,
    /// Priority of the pods among all pods of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::object_name")]
    pub priority_class_name: Option<String>,
}

/// What a budget that says it twice is told.
pub const TWO_BUDGETS: &str = "expected maxUnavailable or minAvailable, not both";

/// What a time outside of the bounds is told.
pub const TIME_RANGE: &str = "expected at least 1s and at most 24h";

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

// === impl Accelerators ===

impl Accelerators {
    fn one() -> i32 {
        1
    }
}

// === impl AccessMode ===

impl AccessMode {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

// === impl TolerationOperator ===

impl TolerationOperator {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Exists => "Exists",
        }
    }
}

// === impl TaintEffect ===

impl TaintEffect {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

fn resource_name(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 317,
        "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        "title": "the name of a resource that nodes advertise",
        "example": "nvidia.com/gpu",
    })
}

fn quantity(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "maxLength": 20,
        "pattern": r"^[1-9][0-9]{0,15}(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
        "title": "a whole amount of bytes",
        "example": "100Gi",
    })
}

fn number_or_share(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": r"^(100|[1-9]?[0-9])%$",
        "minimum": 0,
        "title": "a whole number or a share",
        "example": "25%",
    })
}

fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "minLength": 2, "maxLength": 16,
        "pattern": crate::time::PATTERN,
        "title": "a time",
        "example": "10m",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('24h')",
            "message": TIME_RANGE,
        }],
    })
}
