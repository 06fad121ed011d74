//! `Plan`: what the keys on it may do, how much they may use, and what it costs.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Limits, PlanStatus, Price};

#[expect(
    clippy::duplicated_attributes,
    reason = "print columns of the same type are not duplicates"
)]
/// What the API keys on this plan may do, how much they may use, and what it costs.
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
    doc = "What the API keys on this plan may do, how much they may use, and what it costs.",
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
    /// Names of the models that may be used; absent: all that the plan reaches. A model may be called by any of its
    /// aliases, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::model_names")]
    pub models: Option<Vec<String>>,
    /// Namespaces whose models are reached beside those of the plan's own namespace; absent: none. Only for plans in
    /// a namespace of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// Where requests of several plans wait for the same model, the higher priority goes first. Above 0 only for
    /// plans in a namespace of the platform.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
    /// Share of a saturated fleet that each account on this plan gets, relative to the accounts on other
    /// plans of the same priority.
    #[serde(default = "PlanSpec::usual_weight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: i32,
    /// How requests wait where all workers of their model are full.
    #[serde(default)]
    pub queue: Queue,
    /// How much an account may use, over all its keys on this plan; absent: without limit.
    #[serde(default)]
    pub limits: Limits,
    /// What tokens cost; absent: 5 dollars per million tokens. Less than that only for plans in a namespace of
    /// the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Tokens that are held for the answer of a request that sets no maximum, until the answer ends
    /// and only what it used counts.
    #[serde(default = "PlanSpec::usual_output_reserve")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub default_output_reserve: i32,
    /// What happens while the Redis that counts the limits cannot be reached. `local`: every router
    /// enforces its share of the limits by itself. `closed`: requests are refused with 503. `open`:
    /// requests are let through, and metered afterwards.
    #[serde(default)]
    pub when_redis_is_lost: WhenRedisIsLost,
    /// Limits are counted and reported, but refuse nothing: to try them out before they bind.
    #[serde(default)]
    pub shadow: bool,
    /// Opens the plan to callers without a key. Only one plan may have it, in a namespace of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// Namespaces, as the Prometheus operator selects them: all, or by their names.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum NamespaceSelector {
    /// Whether all namespaces are meant.
    Any(bool),
    /// The names of the namespaces. A model's name is looked up in this order.
    MatchNames(#[schemars(schema_with = "crate::plan::namespaces")] Vec<String>),
}

/// How requests of a plan wait where all workers of their model are full.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// How many may wait at the same time, for one model in one router; further ones are refused with 503.
    /// 0: none waits.
    #[serde(default = "Queue::usual_requests")]
    #[schemars(range(min = 0, max = 65_536))]
    pub max_requests: i32,
    /// How long one waits before it is refused with 503, such as 30s; from 1s to 10m.
    #[serde(default = "Queue::usual_wait")]
    #[schemars(schema_with = "crate::plan::wait")]
    pub max_wait: String,
}

/// What a wait out of the bounds is told.
pub const WAIT_RANGE: &str = "expected at least 1s and at most 10m";

/// What happens while the Redis that counts the limits cannot be reached.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum WhenRedisIsLost {
    /// Every router enforces its share of the limits by itself.
    #[default]
    Local,
    /// Requests are refused with 503.
    Closed,
    /// Requests are let through, and metered afterwards.
    Open,
}

/// How a plan serves callers without a key.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Where a caller gets a key: stands in the error that ends the preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::plan::link")]
    pub sign_up_url: Option<String>,
    /// Tokens that all callers without a key together may use per day (UTC), counted approximately;
    /// absent: without limit.
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

/// Schema of how long a request waits.
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
