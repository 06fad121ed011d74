//! What is kept beside the events: prices, and sums by the hour and by the worker.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::insert::{in_sizes, insert};
use crate::event::{Amounts, Event};
use crate::store::Placeholders;

const HOUR_COLUMNS: [&str; 11] = [
    "hour",
    "account",
    "key_name",
    "plan",
    "model",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nanodollars",
];
const WORKER_COLUMNS: [&str; 7] = [
    "instance",
    "model",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "last_us",
];
const PRICE_COLUMNS: [&str; 6] = [
    "plan",
    "version",
    "input",
    "cached_input",
    "output",
    "first_seen_us",
];
type Hour<'a> = (i64, &'a str, &'a str, &'a str, &'a str);

/// Sums of the same hour, or of the same worker.
#[derive(Default)]
struct Sums {
    requests: i64,
    amounts: Amounts,
}

pub(super) async fn add_prices(
    connection: &mut AnyConnection,
    placeholders: Placeholders,
    events: &[&Event],
    now: i64,
) -> sqlx::Result<()> {
    let prices: BTreeMap<_, _> = events
        .iter()
        .map(|event| ((&event.plan, &event.price.version), &event.price))
        .collect();
    let prices: Vec<_> = prices.into_iter().collect();
    for rows in in_sizes(&prices) {
        let sql = insert(
            placeholders,
            "prices",
            &PRICE_COLUMNS,
            rows.len(),
            "ON CONFLICT DO NOTHING",
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for ((plan, version), price) in rows {
            query = query
                .bind(&***plan)
                .bind(&***version)
                .bind(price.input)
                .bind(price.cached_input)
                .bind(price.output)
                .bind(now);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn add_to_hours(
    connection: &mut AnyConnection,
    placeholders: Placeholders,
    events: &[&Event],
) -> sqlx::Result<()> {
    let mut hours: BTreeMap<Hour<'_>, Sums> = BTreeMap::new();
    for event in events {
        let hour = event.time_us() / 3_600_000_000 * 3_600;
        let row = (
            hour,
            &*event.account,
            &*event.key,
            &*event.plan,
            &*event.model,
        );
        hours.entry(row).or_default().add(event);
    }
    let hours: Vec<_> = hours.into_iter().collect();
    for rows in in_sizes(&hours) {
        let sql = insert(
            placeholders,
            "usage_hours",
            &HOUR_COLUMNS,
            rows.len(),
            "ON CONFLICT (hour, account, key_name, plan, model) DO UPDATE SET \
             requests = usage_hours.requests + excluded.requests, \
             prompt_tokens = usage_hours.prompt_tokens + excluded.prompt_tokens, \
             cached_tokens = usage_hours.cached_tokens + excluded.cached_tokens, \
             completion_tokens = usage_hours.completion_tokens + excluded.completion_tokens, \
             reasoning_tokens = usage_hours.reasoning_tokens + excluded.reasoning_tokens, \
             cost_nanodollars = usage_hours.cost_nanodollars + excluded.cost_nanodollars",
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for ((hour, account, key, plan, model), sums) in rows {
            query = query
                .bind(*hour)
                .bind(*account)
                .bind(*key)
                .bind(*plan)
                .bind(*model)
                .bind(sums.requests)
                .bind(sums.amounts.prompt)
                .bind(sums.amounts.cached)
                .bind(sums.amounts.completion)
                .bind(sums.amounts.reasoning)
                .bind(sums.amounts.cost);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn add_to_workers(
    connection: &mut AnyConnection,
    placeholders: Placeholders,
    events: &[&Event],
) -> sqlx::Result<()> {
    let mut workers: BTreeMap<&str, (&str, Sums, i64)> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| !event.worker_instance.is_empty())
    {
        let (_, sums, last) =
            workers
                .entry(&event.worker_instance)
                .or_insert((&event.model, Sums::default(), 0));
        sums.add(event);
        *last = event.time_us().max(*last);
    }
    let workers: Vec<_> = workers.into_iter().collect();
    for rows in in_sizes(&workers) {
        let sql = insert(
            placeholders,
            "workers",
            &WORKER_COLUMNS,
            rows.len(),
            "ON CONFLICT (instance) DO UPDATE SET requests = workers.requests + excluded.requests, \
             prompt_tokens = workers.prompt_tokens + excluded.prompt_tokens, \
             cached_tokens = workers.cached_tokens + excluded.cached_tokens, \
             completion_tokens = workers.completion_tokens + excluded.completion_tokens, \
             last_us = CASE WHEN workers.last_us > excluded.last_us THEN workers.last_us \
             ELSE excluded.last_us END",
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (instance, (model, sums, last)) in rows {
            query = query
                .bind(*instance)
                .bind(*model)
                .bind(sums.requests)
                .bind(sums.amounts.prompt)
                .bind(sums.amounts.cached)
                .bind(sums.amounts.completion)
                .bind(*last);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

// === impl Sums ===

impl Sums {
    fn add(&mut self, event: &Event) {
        self.requests += event.requests();
        self.amounts.prompt += event.amounts.prompt;
        self.amounts.cached += event.amounts.cached;
        self.amounts.completion += event.amounts.completion;
        self.amounts.reasoning += event.amounts.reasoning;
        self.amounts.cost += event.amounts.cost;
    }
}
