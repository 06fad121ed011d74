//! `Price`: what tokens cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What tokens cost: one price for all of them (`perMillionTokens`), or one for those of prompts and
/// one for those of answers (`perMillionInputTokens` and `perMillionOutputTokens`).
///
/// Prices are US dollars per million tokens, as decimal strings of up to 3 decimals: "0.001" is one
/// nano-dollar per token, and nothing is finer.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.perMillionTokens) || !(has(self.perMillionInputTokens) || \
                 has(self.perMillionCachedInputTokens) || has(self.perMillionOutputTokens))",
        "message": TWO_PRICES,
    },
    {
        "rule": "has(self.perMillionTokens) || \
                 (has(self.perMillionInputTokens) && has(self.perMillionOutputTokens))",
        "message": HALF_A_PRICE,
    },
]))]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Dollars per million tokens, of prompt and answer alike, such as "5".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_tokens: Option<String>,
    /// Dollars per million tokens of prompts, such as "3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_input_tokens: Option<String>,
    /// Dollars per million tokens of prompts that the cache of a worker already holds, such as "0.30";
    /// absent: as other tokens of prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_cached_input_tokens: Option<String>,
    /// Dollars per million tokens of answers, such as "15".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_output_tokens: Option<String>,
}

/// Dollars per million tokens where a plan says nothing.
pub const DEFAULT_PRICE: &str = "5";

/// What a price in both forms is told.
pub const TWO_PRICES: &str = "two prices: expected perMillionTokens alone, or \
                              perMillionInputTokens and perMillionOutputTokens without it";

/// What a price that leaves tokens without one is told.
pub const HALF_A_PRICE: &str = "expected perMillionTokens, or both perMillionInputTokens and \
                                perMillionOutputTokens";

/// Schema of a price, to the nano-dollar per token.
fn per_million(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 10,
        "pattern": r"^[0-9]{1,6}(\.[0-9]{1,3})?$",
        "title": "dollars per million tokens as a decimal string of at most 3 decimals (0.001 is \
                  one nano-dollar per token, the finest price)",
        "example": "0.30",
    })
}
