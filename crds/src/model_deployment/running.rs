//! Scaling, scheduling, rollout and availability of the workers of a model.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of workers that serve a model.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Number of workers. Each worker has its own copy of the model. 0 stops the model and keeps its declaration.
    /// Default: 1. Limits: 0 to 1024.
    #[serde(default = "Scaling::one_replica")]
    #[schemars(range(min = 0, max = 1024))]
    pub replicas: i32,
}

/// The accelerators of each worker, such as GPUs: a class or a resource name, and their number.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.class) != has(self.resourceName)",
    "message": CLASS_OR_RESOURCE,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Accelerators {
    /// Class of accelerators, as configured in the operator: `nvidia`, `amd`, or a class of your platform. Set either
    /// this field or `resourceName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::object_name")]
    pub class: Option<String>,
    /// Name of the extended resource that nodes advertise, such as `nvidia.com/gpu`. Set either this field or `class`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_name")]
    pub resource_name: Option<String>,
    /// Number of accelerators of each worker. Default: 1. Limits: 1 to 64.
    #[serde(default = "Accelerators::one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: i32,
}

/// The message for accelerators with neither or both of a class and a resource name.
pub const CLASS_OR_RESOURCE: &str =
    "expected exactly one of class (such as nvidia) or resourceName (such as nvidia.com/gpu)";

/// A taint that workers tolerate: they may run on nodes with this taint.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
    "message": EXISTS_WITH_VALUE,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint. If it is absent, `operator` must be `Exists`, and the toleration matches every taint. Limit:
    /// 317 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,
    /// How `value` is compared with the value of the taint. Default: `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// Value of the taint. Leave it out with the operator `Exists`. Limit: 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint. If it is absent, the toleration matches every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// The message for a toleration with a value that the operator `Exists` ignores.
pub const EXISTS_WITH_VALUE: &str = "expected no value with the operator Exists";

/// How the value of a toleration is compared with the value of a taint.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TolerationOperator {
    /// The toleration matches if the values are equal.
    Equal,
    /// The toleration matches every value.
    Exists,
}

/// The effect of a taint.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaintEffect {
    /// New pods are not scheduled on the node.
    NoSchedule,
    /// New pods are scheduled on the node only if no other node fits.
    PreferNoSchedule,
    /// New pods are not scheduled on the node, and running pods are evicted.
    NoExecute,
}

/// The storage of downloaded weights.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Weights {
    /// A volume that outlives the pods, so that only the first worker downloads the weights. If it is absent, each pod
    /// downloads the weights into an `emptyDir` volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// A volume for downloaded weights. The operator creates a PersistentVolumeClaim for it.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size of the volume in bytes, as a whole Kubernetes quantity such as `100Gi`.
    #[schemars(schema_with = "quantity")]
    pub size: String,
    /// Name of the StorageClass. Default: the default StorageClass of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::object_name")]
    pub storage_class_name: Option<String>,
    /// Access mode of the volume. `ReadWriteOnce`: only pods on one node can mount it, so the model can have at most 1
    /// worker. `ReadWriteMany`: pods on all nodes can mount it. Default: `ReadWriteOnce`.
    #[serde(default)]
    pub access_mode: AccessMode,
}

/// The access mode of a volume.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// Pods on one node can mount the volume.
    #[default]
    ReadWriteOnce,
    /// Pods on all nodes can mount the volume.
    ReadWriteMany,
}

/// How workers are replaced after a change of the declaration.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.maxSurge) || !has(self.maxUnavailable) || !(string(self.maxSurge) in ['0', '0%']) || !(string(self.maxUnavailable) in ['0', '0%'])",
    "message": NO_WAY_TO_ROLL,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Number or percentage of workers that may run beyond `scaling.replicas` during a rollout. Default: 1; 0 if
    /// workers have accelerators, or if the volume for weights has the access mode `ReadWriteOnce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_surge: Option<IntOrString>,
    /// Number or percentage of workers that may be missing during a rollout. Default: 0; 1 if `maxSurge` is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_unavailable: Option<IntOrString>,
    /// Longest time that a worker has to finish its running answers when it is stopped, as a duration such as `10m`.
    /// The worker exits earlier if it has no running answer. Default: `10m`. Limits: `1s` to `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub drain_timeout: Option<String>,
}

/// The message for a rollout that could never replace a worker.
pub const NO_WAY_TO_ROLL: &str =
    "expected maxSurge or maxUnavailable above 0: with both at 0 no worker could ever be replaced";

/// The PodDisruptionBudget and the priority of the workers of a model.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.maxUnavailable) || !has(self.minAvailable)",
    "message": TWO_BUDGETS,
}]))]
#[serde(rename_all = "camelCase")]
pub struct Availability {
    /// Number or percentage of workers that node drains and other voluntary disruptions may evict at the same time. Set
    /// either this field or `minAvailable`. Default if both are absent: 1. Ignored with fewer than 2 replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_unavailable: Option<IntOrString>,
    /// Number or percentage of workers that voluntary disruptions must leave running. Set either this field or
    /// `maxUnavailable`. Ignored with fewer than 2 replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub min_available: Option<IntOrString>,
    /// Name of the PriorityClass of the pods, which decides which pods of the cluster are scheduled first and which are
    /// preempted. Default: the default PriorityClass of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::object_name")]
    pub priority_class_name: Option<String>,
}

/// The message for a disruption budget with both bounds.
pub const TWO_BUDGETS: &str = "expected maxUnavailable or minAvailable, not both";

/// The message for a drain timeout outside of its limits.
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
    /// The name that Kubernetes uses.
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
    /// The name that Kubernetes uses.
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
    /// The name that Kubernetes uses.
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
