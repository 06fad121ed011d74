//! `Limits`: how much may be used, of a plan by each account, or of an account by one key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be used; what is absent has no limit.
///
/// Limits per minute and per day refill evenly, as OpenAI's do: with 60 requests per minute one comes
/// back every second, and all 60 may be used at once. Every token counts, of prompt and answer, also
/// cached ones.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub requests_per_minute: Option<i64>,
    /// Requests per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub requests_per_day: Option<i64>,
    /// Requests at all: this limit never refills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub requests_total: Option<i64>,
    /// Tokens, of prompt and answer together, per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub tokens_per_minute: Option<i64>,
    /// Tokens, of prompt and answer together, per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub tokens_per_day: Option<i64>,
    /// Requests that run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::count")]
    pub concurrent_requests: Option<i64>,
    /// US dollars per calendar month (UTC), as a decimal string such as "25.00"; at the prices of the
    /// plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::limits::budget")]
    pub budget_per_month: Option<String>,
}

/// What a budget of nothing is told.
pub const NO_BUDGET: &str = "expected more than 0 dollars; leave the field out for no budget";

/// Schema of a limit that counts something.
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
