//! `Limits`: the limits of each account on a plan, or of one key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of usage. A field that is absent sets no limit. Each limit is at least 1 and at most 1000000000000.
///
/// Limits per minute and per day refill evenly, like those of OpenAI: with 60 requests per minute, one request becomes
/// available every second, and all 60 may be used at once. All tokens of prompts and answers count, including cached
/// ones.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Number of requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub requests_per_minute: Option<i64>,
    /// Number of requests per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub requests_per_day: Option<i64>,
    /// Number of requests in total. This limit never refills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub requests_total: Option<i64>,
    /// Number of tokens per minute, of prompts and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub tokens_per_minute: Option<i64>,
    /// Number of tokens per day, of prompts and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub tokens_per_day: Option<i64>,
    /// Number of requests that run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub concurrent_requests: Option<i64>,
    /// Budget in US dollars per calendar month (UTC) at the prices of the plan, as a decimal string such as "25.00". It
    /// must be greater than 0 and may have 9 decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::budget")]
    pub budget_per_month: Option<String>,
}

/// The message for a budget of 0.
pub const NO_BUDGET: &str = "expected more than 0 dollars; leave the field out for no budget";

/// Schema of a limit of a number.
pub(crate) fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "integer",
        "format": "int64",
        "minimum": 1,
        "maximum": 1_000_000_000_000_i64,
        "title": "a whole number of at least 1 and at most 1000000000000 (leave the field out for no limit)",
    })
}

/// Schema of an amount of money, to the nano-dollar.
fn budget(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 17,
        "pattern": r"^[0-9]{1,7}(\.[0-9]{1,9})?$",
        "title": "dollars as a decimal string",
        "example": "25.00",
        "x-kubernetes-validations": [{ "rule": "double(self) > 0.0", "message": NO_BUDGET }],
    })
}
