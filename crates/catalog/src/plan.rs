//! A plan: what its keys may use, and prices.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use inferyard_domain::{ModelId, NanoDollars, PlanName, TokenPrice, Tokens};

use super::{Model, ONE_SCOPE};

/// What the keys of a plan may use. Its limits apply to an account, over all of its keys on this plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name of the plan.
    pub name: PlanName,
    /// The scopes in which names of models are looked up, in this order.
    pub scopes: Vec<Arc<str>>,
    /// Ids of the allowed models; `None`: all in its scopes.
    pub models: Option<Vec<ModelId>>,
    /// Priority in the queues of routers and workers: higher goes first.
    pub priority: i32,
    /// Share of each account in a saturated fleet, relative to other accounts of the same priority.
    pub weight: u32,
    /// Limits of the queue while all workers are full.
    pub queue: Queue,
    /// The limits of an account.
    pub limits: Limits,
    /// The price of tokens.
    pub price: Price,
    /// Tokens reserved for an answer if the request sets no maximum.
    pub output_reserve: u32,
    /// What happens while the store of limits cannot be reached.
    pub on_loss: OnLoss,
    /// Shadow mode: limits are counted and reported, but deny nothing.
    pub shadow: bool,
    /// Set if the plan is open to callers without a key.
    pub preview: Option<Preview>,
}

/// Limits of the queue for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Requests that may wait at the same time, per model and router.
    pub max_requests: usize,
    /// Longest time that a request may wait.
    pub max_wait: Duration,
}

/// Limits of an account or a key; `None`: no limit.
///
/// Limits per minute and per day are leaky buckets, as at OpenAI: usage leaks evenly, and a burst may use the whole
/// bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub requests_per_minute: Option<NonZeroU64>,
    /// Requests per day.
    pub requests_per_day: Option<NonZeroU64>,
    /// Requests in total, without a time window.
    pub requests_total: Option<NonZeroU64>,
    /// Tokens, prompt and answer together, per minute.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Tokens, prompt and answer together, per day.
    pub tokens_per_day: Option<NonZeroU64>,
    /// Concurrent requests.
    pub concurrent_requests: Option<NonZeroU64>,
    /// Nano-dollars per calendar month, UTC.
    pub budget_per_month: Option<NonZeroU64>,
}

/// Prices of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Derived from plan and prices, so it is the same in all routers: eight hexadecimal digits.
    pub version: Arc<str>,
    /// Price of a prompt token that is computed.
    pub input: TokenPrice,
    /// Price of a prompt token from the KV cache.
    pub cached_input: TokenPrice,
    /// Price of an answer token.
    pub output: TokenPrice,
}

/// What a plan does while the store of limits cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Every router enforces its share of the limits by itself.
    #[default]
    Local,
    /// Requests are refused with 503.
    Closed,
    /// Requests are admitted without limits, and charged afterwards.
    Open,
}

/// How a plan serves callers without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Where to get a key, for the error that ends the preview.
    pub sign_up: Option<Arc<str>>,
    /// Tokens that all these callers together may use per day (UTC), approximately.
    pub tokens_per_day: Option<NonZeroU64>,
}

// === impl Price ===

impl Price {
    /// Nano-dollars per token of any kind: $5 per million tokens.
    pub const DEFAULT: u64 = 5_000;

    /// The prices of a plan, in nano-dollars per token.
    #[must_use]
    pub fn new(plan: &str, input: u64, cached_input: u64, output: u64) -> Self {
        use sha2::{Digest, Sha256};
        let text = format!("{plan}\0{input}\0{cached_input}\0{output}");
        let digest = Sha256::digest(text);
        let version = hex::encode(&digest[..4]);
        Self {
            version: version.into(),
            input: TokenPrice::new(input),
            cached_input: TokenPrice::new(cached_input),
            output: TokenPrice::new(output),
        }
    }

    /// The cost of a request. `prompt` includes `cached`.
    #[must_use]
    pub fn cost(&self, prompt: Tokens, cached: Tokens, completion: Tokens) -> NanoDollars {
        let computed = self.input * prompt.saturating_sub(cached);
        computed + self.cached_input * cached + self.output * completion
    }
}

// === impl Queue ===

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_requests: 256,
            max_wait: Duration::from_secs(30),
        }
    }
}

// === impl Plan ===

impl Plan {
    /// A plan without restrictions, at the default price.
    #[must_use]
    pub fn unrestricted(name: &str) -> Self {
        let price = Price::DEFAULT;
        Self {
            name: name.into(),
            scopes: vec![ONE_SCOPE.into()],
            models: None,
            priority: 0,
            weight: 100,
            queue: Queue::default(),
            limits: Limits::default(),
            price: Price::new(name, price, price, price),
            output_reserve: 1024,
            on_loss: OnLoss::default(),
            shadow: false,
            preview: None,
        }
    }

    /// Whether the plan allows a model that is in its scopes.
    #[must_use]
    pub fn allows(&self, model: &Model) -> bool {
        let allowed = self.models.as_ref();
        allowed.is_none_or(|ids| ids.contains(&model.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tokens_cost_five_dollars_by_default() {
        let price = Plan::unrestricted("p").price;
        let (prompt, cached, completion) = (600_000, 100_000, 400_000);
        let cost = price.cost(
            Tokens::new(prompt),
            Tokens::new(cached),
            Tokens::new(completion),
        );
        assert_eq!(cost, NanoDollars::new(5_000_000_000));
    }

    #[test]
    fn another_price_or_plan_is_another_version() {
        let one = Price::new("p", 5_000, 5_000, 5_000).version;
        assert_eq!(one, Price::new("p", 5_000, 5_000, 5_000).version);
        assert_ne!(one, Price::new("p", 5_000, 2_500, 5_000).version);
        assert_ne!(one, Price::new("q", 5_000, 5_000, 5_000).version);
    }
}
