//! `Plan`: the models, limits, priority and price of the API keys on it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Limits, PlanStatus, Price};

#[expect(
    clippy::duplicated_attributes,
    reason = "print columns of the same type are not duplicates"
)]
/// The models that the API keys on this plan may use, their limits, their priority and their price.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[kube(
    group = "inferyard.dev",
    version = "v1alpha1",
    kind = "Plan",
    plural = "plans",
    category = "inferyard",
    namespaced,
    status = "PlanStatus",
    derive = "PartialEq",
    doc = "The models that the API keys on this plan may use, their limits, their priority and their price.",
    printcolumn(name = "Models", type_ = "string", json_path = ".spec.models"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(
        name = "Requests/min",
        type_ = "integer",
        json_path = ".spec.limits.requestsPerMinute"
    ),
    printcolumn(
        name = "Tokens/min",
        type_ = "integer",
        json_path = ".spec.limits.tokensPerMinute"
    ),
    printcolumn(
        name = "Budget",
        type_ = "string",
        json_path = ".spec.limits.budgetPerMonth"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// Names of the models that may be used. Requests may use the aliases of these models too. Default: all models in
    /// the namespaces that the plan reaches. Limit: 64 names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::model_names")]
    pub models: Option<Vec<String>>,
    /// Further namespaces whose models the plan reaches, in addition to its own namespace. Default: none. Only allowed
    /// in a namespace of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// Priority of the requests in the queue of a model: requests of plans with a higher priority run first. Default:
    /// 0. Limits: -1000 to 1000. Only a plan in a namespace of the platform may have a priority above 0.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Weight of each account on this plan in the queue of a model, relative to the accounts on other plans of the same
    /// priority. Default: 100. Limits: 1 to 10000.
    #[serde(default = "PlanSpec::usual_weight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: i32,
    /// Queue of the requests while all workers of a model are busy.
    #[serde(default)]
    pub queue: Queue,
    /// Limits of each account, over all of its keys on this plan. Default: no limits.
    #[serde(default)]
    pub limits: Limits,
    /// Price of tokens. Default: 5 US dollars per million tokens. Only a plan in a namespace of the platform may have a
    /// lower price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Number of tokens that are reserved against the limits for the answer of a request without `max_tokens`. When the
    /// answer ends, only the tokens that it used count. Default: 1024. Limits: 1 to 1048576.
    #[serde(default = "PlanSpec::usual_output_reserve")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub default_output_reserve: i32,
    /// Behavior while the router cannot reach the Redis server that counts the limits. `local`: each router enforces
    /// its share of the limits on its own. `closed`: requests are refused with status 503. `open`: requests are
    /// accepted and metered afterwards. Default: `local`.
    #[serde(default)]
    pub when_redis_is_lost: WhenRedisIsLost,
    /// Whether limits are only counted and reported, without refusing requests. Use it to try limits out. Default:
    /// false.
    #[serde(default)]
    pub shadow: bool,
    /// Opens the plan to callers without a key. Only one plan may set it, and only in a namespace of the platform.
    /// Default: callers need a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// A selection of namespaces: all of them, or some by name. Set exactly one of the fields.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum NamespaceSelector {
    /// Whether all namespaces are selected.
    Any(bool),
    /// Names of the namespaces. The name of a model is looked up in this order. Limit: 64 names.
    MatchNames(#[schemars(schema_with = "crate::plan::namespaces")] Vec<String>),
}

/// The queue of the requests of a plan while all workers of a model are busy.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Number of requests of the plan that may wait at the same time for one model in one router. Further requests are
    /// refused with status 503. 0: no request waits. Default: 256. Limits: 0 to 65536.
    #[serde(default = "Queue::usual_requests")]
    #[schemars(range(min = 0, max = 65_536))]
    pub max_requests: i32,
    /// Longest time that a request waits before it is refused with status 503, as a duration such as `30s`. Default:
    /// `30s`. Limits: `1s` to `10m`.
    #[serde(default = "Queue::usual_wait")]
    #[schemars(schema_with = "crate::plan::wait")]
    pub max_wait: String,
}

/// The message for a longest wait outside of its limits.
pub const WAIT_RANGE: &str = "expected at least 1s and at most 10m";

/// The behavior while the router cannot reach the Redis server that counts the limits.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum WhenRedisIsLost {
    /// Each router enforces its share of the limits on its own.
    #[default]
    Local,
    /// Requests are refused with status 503.
    Closed,
    /// Requests are accepted and metered afterwards.
    Open,
}

/// How a plan serves callers without a key.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Address where callers get a key. It is part of the error message at the end of the preview. Default: none.
    /// Limit: 2048 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::plan::link")]
    pub sign_up_url: Option<String>,
    /// Number of tokens that all callers without a key may use together per day (UTC), counted approximately. Default:
    /// no limit. Limits: 1 to 1000000000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub tokens_per_day: Option<i64>,
}

// === impl PlanSpec ===

impl PlanSpec {
    fn usual_weight() -> i32 {
        100
    }

    fn usual_output_reserve() -> i32 {
        1024
    }
}

// === impl Queue ===

impl Queue {
    fn usual_requests() -> i32 {
        256
    }

    fn usual_wait() -> String {
        "30s".to_owned()
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_requests: Self::usual_requests(),
            max_wait: Self::usual_wait(),
        }
    }
}

/// Schema of a list of namespaces.
fn namespaces(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "string",
            "maxLength": 63,
            "pattern": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
            "title": "the name of a namespace: lower-case letters, digits and -",
        },
    })
}

/// Schema of the longest wait of a request.
fn wait(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "minLength": 2, "maxLength": 16,
        "pattern": crate::time::PATTERN,
        "title": "a time",
        "example": "30s",
        "x-kubernetes-validations": [{
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('10m')",
            "message": WAIT_RANGE,
        }],
    })
}

/// Schema of a link that people follow.
fn link(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 2048,
        "pattern": r"^https?://[!-~]+$",
        "title": "a link",
        "example": "https://example.com/sign-up",
    })
}
