//! Plans and the limits of keys: converts the custom resource into what the router counts.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::{Limits, ONE_SCOPE, OnLoss, Plan, Preview, Price, Queue};
use inferyard_crds::{
    HALF_A_PRICE, Limits as LimitsResource, NO_BUDGET, OF_A_DOLLAR, OF_A_PRICE, PlanSpec,
    Preview as PreviewResource, Price as PriceResource, Queue as QueueResource, TWO_PRICES,
    WAIT_RANGE, WhenRedisIsLost, seconds,
};
use inferyard_domain::ModelId;

use crate::mistake::Report;

/// The range of `spec.queue.maxWait` in seconds.
const LONGEST_WAITS: std::ops::RangeInclusive<u64> = 1..=600;

const IN_RANGE: &str = "should be in the range of the schema";

/// Converts the `spec` of a Plan into what the router counts; rules that the schema cannot state go to `report`.
///
/// `models` are ids of the catalog, `None` for all. The plan's scope is [`ONE_SCOPE`]; a caller that has several scopes
/// replaces it.
///
/// # Panics
///
/// If `spec` violates the schema: check it with [`check_spec`](crate::check_spec) first.
#[must_use]
pub fn convert(
    name: &str,
    spec: &PlanSpec,
    models: Option<Vec<ModelId>>,
    report: Report<'_>,
) -> Plan {
    let default_price = Price::new(name, Price::DEFAULT, Price::DEFAULT, Price::DEFAULT);
    let price = match &spec.price {
        Some(declared) => price(name, declared).unwrap_or_else(|message| {
            report("spec.price", message.to_owned());
            default_price
        }),
        None => default_price,
    };
    Plan {
        name: name.into(),
        scopes: vec![ONE_SCOPE.into()],
        models,
        priority: spec.priority,
        weight: spec.weight.try_into().expect(IN_RANGE),
        queue: queue(&spec.queue, report),
        limits: limits(&spec.limits, report),
        price,
        output_reserve: spec.default_output_reserve.try_into().expect(IN_RANGE),
        on_loss: match spec.when_redis_is_lost {
            WhenRedisIsLost::Local => OnLoss::Local,
            WhenRedisIsLost::Closed => OnLoss::Closed,
            WhenRedisIsLost::Open => OnLoss::Open,
        },
        shadow: spec.shadow,
        preview: spec.preview.as_ref().map(preview),
    }
}

/// Converts the limits of a plan or of a key; both have them at `spec.limits`.
pub(crate) fn limits(declared: &LimitsResource, report: Report<'_>) -> Limits {
    let budget = declared.budget_per_month.as_deref().and_then(|text| {
        let budget = NonZeroU64::new(decimal(text, OF_A_DOLLAR));
        if budget.is_none() {
            let message = format!("{NO_BUDGET}; found {text:?}");
            report("spec.limits.budgetPerMonth", message);
        }
        budget
    });
    Limits {
        requests_per_minute: declared.requests_per_minute.map(count),
        requests_per_day: declared.requests_per_day.map(count),
        requests_total: declared.requests_total.map(count),
        tokens_per_minute: declared.tokens_per_minute.map(count),
        tokens_per_day: declared.tokens_per_day.map(count),
        concurrent_requests: declared.concurrent_requests.map(count),
        budget_per_month: budget,
    }
}

fn queue(declared: &QueueResource, report: Report<'_>) -> Queue {
    let text = &declared.max_wait;
    let wait = seconds(text).filter(|seconds| LONGEST_WAITS.contains(seconds));
    if wait.is_none() {
        let message = format!("{WAIT_RANGE}; found {text:?}");
        report("spec.queue.maxWait", message);
    }
    Queue {
        max_requests: declared.max_requests.try_into().expect(IN_RANGE),
        max_wait: wait.map_or(Queue::default().max_wait, Duration::from_secs),
    }
}

fn preview(declared: &PreviewResource) -> Preview {
    Preview {
        sign_up: declared.sign_up_url.as_deref().map(Arc::from),
        tokens_per_day: declared.tokens_per_day.map(count),
    }
}

/// Converts a number that the schema has checked to be above zero.
fn count(declared: i64) -> NonZeroU64 {
    u64::try_from(declared)
        .ok()
        .and_then(NonZeroU64::new)
        .expect(IN_RANGE)
}

fn price(plan: &str, declared: &PriceResource) -> Result<Price, &'static str> {
    let amount = |text: &Option<String>| Some(decimal(text.as_deref()?, OF_A_PRICE));
    let all = amount(&declared.per_million_tokens);
    let input = amount(&declared.per_million_input_tokens);
    let cached = amount(&declared.per_million_cached_input_tokens);
    let output = amount(&declared.per_million_output_tokens);
    match (all, input, cached, output) {
        (Some(all), None, None, None) => Ok(Price::new(plan, all, all, all)),
        (Some(_), _, _, _) => Err(TWO_PRICES),
        (None, Some(input), cached, Some(output)) => {
            Ok(Price::new(plan, input, cached.unwrap_or(input), output))
        }
        (None, _, _, _) => Err(HALF_A_PRICE),
    }
}

fn decimal(text: &str, decimals: usize) -> u64 {
    inferyard_crds::decimal(text, decimals)
        .expect("a decimal should match the pattern of the schema")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_that_tenants_must_ask_is_the_default_one() {
        let declared = decimal(inferyard_crds::DEFAULT_PRICE, OF_A_PRICE);
        assert_eq!(declared, Price::DEFAULT);
    }
}
