//! A plan: what the keys on it may do, and what it costs.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::{Model, ONE_SCOPE};

/// What the keys of a plan may do. Its limits bind an account, over all its keys on this plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Name of the plan.
    pub name: Arc<str>,
    /// The scopes in which names of models are looked up, one after the other.
    pub scopes: Vec<Arc<str>>,
    /// Ids of the models it may use; `None`: all in its scopes.
    pub models: Option<Vec<Arc<str>>>,
    /// Whose requests wait less, in the router and in a worker: the higher goes first.
    pub priority: i32,
    /// Share of a saturated fleet of each account, relative to other accounts of its priority.
    pub weight: u32,
    /// How its requests wait where all workers are full.
    pub queue: Queue,
    /// What an account may use.
    pub limits: Limits,
    /// What tokens cost.
    pub price: Price,
    /// Tokens reserved for an answer whose request sets no maximum.
    pub output_reserve: u32,
    /// What happens while the limits' store cannot be reached.
    pub on_loss: OnLoss,
    /// Limits are counted and reported, and deny nothing.
    pub shadow: bool,
    /// Open to callers without a key.
    pub preview: Option<Preview>,
}

/// How requests of a plan wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// So many at the same time, for one model in one router.
    pub max_requests: usize,
    /// So long.
    pub max_wait: Duration,
}

/// Limits of an account or of a key; an absent one does not exist.
///
/// Those per minute and per day are leaking buckets, as OpenAI's: what was used comes back evenly, and
/// a burst may use all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub requests_per_minute: Option<NonZeroU64>,
    /// Requests per day.
    pub requests_per_day: Option<NonZeroU64>,
    /// Requests at all.
    pub requests_total: Option<NonZeroU64>,
    /// Tokens, prompt and answer together, per minute.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Tokens, prompt and answer together, per day.
    pub tokens_per_day: Option<NonZeroU64>,
    /// Requests at the same time.
    pub concurrent_requests: Option<NonZeroU64>,
    /// Nano-dollars per calendar month, UTC.
    pub budget_per_month: Option<NonZeroU64>,
}

/// What tokens cost, in nano-dollars per token (one US dollar per million tokens is 1,000).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Derived from plan and prices, the same everywhere: eight hexadecimal digits.
    pub version: Arc<str>,
    /// For a prompt token that is computed.
    pub input: u64,
    /// For a prompt token that the KV cache holds.
    pub cached_input: u64,
    /// For a produced token.
    pub output: u64,
}

/// What a plan does while the store of its limits cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// Every router enforces its share of the limits by itself.
    #[default]
    Local,
    /// Requests are refused with 503.
    Closed,
    /// Requests are let through, and metered afterwards.
    Open,
}

/// How a plan serves callers without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Where a caller gets a key, for the error that ends the preview.
    pub sign_up: Option<Arc<str>>,
    /// Tokens that all of them together may use per day (UTC), counted approximately.
    pub tokens_per_day: Option<NonZeroU64>,
}

// === impl Price ===

impl Price {
    /// Nano-dollars per token of $5 per million tokens, of which kind ever.
    pub const DEFAULT: u64 = 5_000;

    /// Prices of a plan, in nano-dollars per token.
    #[must_use]
    pub fn new(plan: &str, input: u64, cached_input: u64, output: u64) -> Self {
        use sha2::{Digest, Sha256};
        let text = format!("{plan}\0{input}\0{cached_input}\0{output}");
        let digest = Sha256::digest(text);
        let version = format!(
            "{:02x}{:02x}{:02x}{:02x}",
            digest[0], digest[1], digest[2], digest[3]
        );
        Self {
            version: version.into(),
            input,
            cached_input,
            output,
        }
    }

    /// What so many tokens cost. `prompt` includes `cached`.
    #[must_use]
    pub fn cost(&self, prompt: u64, cached: u64, completion: u64) -> u64 {
        let computed = prompt.saturating_sub(cached).saturating_mul(self.input);
        let kept = cached.saturating_mul(self.cached_input);
        let produced = completion.saturating_mul(self.output);
        computed.saturating_add(kept).saturating_add(produced)
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

    /// Whether a model in its scopes may be used.
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
        assert_eq!(price.cost(600_000, 100_000, 400_000), 5_000_000_000);
    }

    #[test]
    fn another_price_or_plan_is_another_version() {
        let one = Price::new("p", 5_000, 5_000, 5_000).version;
        assert_eq!(one, Price::new("p", 5_000, 5_000, 5_000).version);
        assert_ne!(one, Price::new("p", 5_000, 2_500, 5_000).version);
        assert_ne!(one, Price::new("q", 5_000, 5_000, 5_000).version);
    }
}
