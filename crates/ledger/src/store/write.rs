//! Events into the tables: a batch is one transaction, and an event that is there already counts nothing.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::Placeholders;
use crate::event::{DeadLetter, Event};

mod insert;
mod sums;

use insert::{in_sizes, insert};
use sums::{add_prices, add_to_hours, add_to_workers};

const EVENT_COLUMNS: [&str; 22] = [
    "request_id",
    "part",
    "time_us",
    "account",
    "key_name",
    "plan",
    "model",
    "endpoint",
    "stream",
    "price_version",
    "worker_instance",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nanodollars",
    "status",
    "code",
    "admitted_us",
    "ended_us",
    "first_token_us",
    "stored_us",
];
const DEAD_COLUMNS: [&str; 6] = ["digest", "reason", "part", "event", "billed", "stored_us"];

type Statement<'q> = Query<'q, Any, AnyArguments>;
/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Events that were not there.
    pub(crate) new: usize,
    /// Events that were there already.
    pub(crate) known: usize,
}

/// The store has not confirmed the batch. It may have committed it all the same, where the answer was
/// lost: repeating it does no harm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The store did not do it; the next try may succeed.
    #[error("the ledger's store did not take a batch of events")]
    Unavailable(#[source] sqlx::Error),
    /// The store did not answer.
    #[error("the ledger's store did not answer within {0:?}")]
    TooSlow(Duration),
    /// It will refuse this batch for ever: a value in it is not to its liking.
    #[error("the ledger's store refuses a value")]
    Refused(#[source] sqlx::Error),
}

/// Stores events and dead letters in one transaction. After an error the connection must not be used
/// again: see [`Writer`](super::Writer).
pub(super) async fn write_batch(
    connection: &mut AnyConnection,
    placeholders: Placeholders,
    events: &[Event],
    dead: &[DeadLetter],
) -> sqlx::Result<Stored> {
    let now = now_us();
    // Every ledger takes locks in the same order, so that two of them never wait for each other.
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by(|a, b| (&a.request_id, a.part).cmp(&(&b.request_id, b.part)));
    sorted.dedup_by(|a, b| (&a.request_id, a.part) == (&b.request_id, b.part));

    let mut transaction = connection.begin().await?;
    let new = insert_events(&mut transaction, placeholders, &sorted, now).await?;
    let fresh: Vec<&Event> = sorted
        .into_iter()
        .filter(|event| new.contains(&(event.request_id.clone(), event.part)))
        .collect();
    add_prices(&mut transaction, placeholders, &fresh, now).await?;
    add_to_hours(&mut transaction, placeholders, &fresh).await?;
    add_to_workers(&mut transaction, placeholders, &fresh).await?;
    add_dead_letters(&mut transaction, placeholders, dead, now).await?;
    transaction.commit().await?;
    Ok(Stored {
        new: fresh.len(),
        known: events.len() - fresh.len(),
    })
}

/// Returns the ids of those that were not there.
async fn insert_events(
    connection: &mut AnyConnection,
    placeholders: Placeholders,
    events: &[&Event],
    now: i64,
) -> sqlx::Result<HashSet<(String, i64)>> {
    let mut new = HashSet::with_capacity(events.len());
    for rows in in_sizes(events) {
        let sql = insert(
            placeholders,
            "events",
            &EVENT_COLUMNS,
            rows.len(),
            "ON CONFLICT (request_id, part) DO NOTHING RETURNING request_id, part",
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for event in rows {
            query = bind_event(query, event, now);
        }
        for row in query.fetch_all(&mut *connection).await? {
            new.insert((row.try_get(0)?, row.try_get(1)?));
        }
    }
    Ok(new)
}

fn bind_event<'q>(query: Statement<'q>, event: &'q Event, now: i64) -> Statement<'q> {
    query
        .bind(&*event.request_id)
        .bind(event.part)
        .bind(event.time_us())
        .bind(&*event.account)
        .bind(&*event.key)
        .bind(&*event.plan)
        .bind(&*event.model)
        .bind(&*event.endpoint)
        .bind(i64::from(event.stream))
        .bind(&*event.price.version)
        .bind(&*event.worker_instance)
        .bind(event.amounts.prompt)
        .bind(event.amounts.cached)
        .bind(event.amounts.completion)
        .bind(event.amounts.reasoning)
        .bind(event.amounts.cost)
        .bind(event.status)
        .bind(&*event.code)
        .bind(event.admitted_us)
        .bind(event.ended_us)
        .bind(event.first_token_us)
        .bind(now)
}

async fn add_dead_letters(
    connection: &mut AnyConnection,
    placeholders: Placeholders,
    dead: &[DeadLetter],
    now: i64,
) -> sqlx::Result<()> {
    for letter in dead {
        let sql = insert(
            placeholders,
            "dead_letters",
            &DEAD_COLUMNS,
            1,
            "ON CONFLICT DO NOTHING",
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(digest(letter))
            .bind(&*letter.reason)
            .bind(&*letter.part)
            .bind(&*letter.event)
            .bind(&*letter.billed)
            .bind(now)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// An entry that comes again is known by what it holds.
fn digest(letter: &DeadLetter) -> String {
    let mut hash = Sha256::new();
    for part in [letter.part.as_bytes(), &letter.event, &letter.billed] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    format!("{:064x}", hash.finalize())
}

fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|now| i64::try_from(now.as_micros()).ok())
        .unwrap_or(0)
}

// === impl WriteError ===

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        let refused = match &error {
            sqlx::Error::Encode(_) => true,
            sqlx::Error::Database(database) => {
                database.code().is_some_and(|code| is_about_a_value(&code))
            }
            _ => false,
        };
        if refused {
            Self::Refused(error)
        } else {
            Self::Unavailable(error)
        }
    }
}

/// PostgreSQL's classes 22 (data exception) and 23 (constraint), of five characters; SQLite's TOOBIG,
/// CONSTRAINT, MISMATCH and RANGE in the last eight bits of a number.
fn is_about_a_value(code: &str) -> bool {
    if code.len() == 5 && !code.starts_with("22") && !code.starts_with("23") {
        return false;
    }
    if code.len() == 5 {
        return true;
    }
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 18 | 19 | 20 | 25))
}
