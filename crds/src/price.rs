//! `Price`: the price of tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The price of tokens: one price for all tokens (`perMillionTokens`), or one price for the tokens of prompts and one
/// for the tokens of answers (`perMillionInputTokens` and `perMillionOutputTokens`).
///
/// Prices are US dollars per million tokens, as decimal strings with up to 3 decimals. The smallest price is "0.001",
/// one nano-dollar per token.
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
    /// US dollars per million tokens of prompts and answers, such as "5".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_tokens: Option<String>,
    /// US dollars per million tokens of prompts, such as "3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_input_tokens: Option<String>,
    /// US dollars per million tokens of prompts that a worker had in its prefix cache, such as "0.30". Default: the
    /// price of other tokens of prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_cached_input_tokens: Option<String>,
    /// US dollars per million tokens of answers, such as "15".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::price::per_million")]
    pub per_million_output_tokens: Option<String>,
}

/// US dollars per million tokens if a plan sets no price.
pub const DEFAULT_PRICE: &str = "5";

/// The message for a price in both forms.
pub const TWO_PRICES: &str = "two prices: expected perMillionTokens alone, or \
                              perMillionInputTokens and perMillionOutputTokens without it";

/// The message for a price that covers only a part of the tokens.
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
