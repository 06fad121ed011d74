//! What the tables answer: sums over time, groups and workers.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError};

/// Sums are kept by the hour; what is finer comes from the events themselves.
const HOUR: i64 = 3_600;

/// What sums can be told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Who pays.
    Account,
    /// The key, within its account.
    Key,
    /// The plan.
    Plan,
    /// The model.
    Model,
}

/// Which sums are wanted.
#[derive(Debug, Clone, Default)]
pub struct Period {
    /// The first second since the Unix epoch.
    pub from: i64,
    /// The second after the last one.
    pub to: i64,
    /// The seconds of a bucket; 0: one bucket for all.
    pub width: i64,
    /// Told apart by these.
    pub groups: Vec<Group>,
    /// Only these accounts, keys, plans or models.
    pub only: Vec<(Group, Vec<String>)>,
    /// At most so many rows.
    pub limit: i64,
}

/// Sums of one bucket and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The first second of the bucket; 0 where there is one for all.
    pub bucket: i64,
    /// Values of [`Period::groups`], in their order.
    pub groups: Vec<String>,
    /// The sums.
    pub totals: Totals,
}

/// Sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests.
    pub requests: i64,
    /// Tokens of prompts, cached ones included.
    pub prompt_tokens: i64,
    /// How many of them came from the KV cache.
    pub cached_tokens: i64,
    /// Tokens produced, reasoning included.
    pub completion_tokens: i64,
    /// How many of them were reasoning.
    pub reasoning_tokens: i64,
    /// Nano-dollars.
    pub cost_nanodollars: i64,
}

/// What was billed of one life of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerTotals {
    /// The worker's life, as [`boot_text`](crate::boot_text) writes it.
    pub boot: String,
    /// Canonical name of its model.
    pub model: String,
    /// Requests.
    pub requests: i64,
    /// Tokens of prompts.
    pub prompt_tokens: i64,
    /// How many of them came from the KV cache.
    pub cached_tokens: i64,
    /// Tokens produced.
    pub completion_tokens: i64,
    /// The last moment of an event, in microseconds since the Unix epoch.
    pub last_us: i64,
}

// === impl Store ===

impl Store {
    /// Sums of a period, ordered by bucket and groups. Whole hours count: all of the one in which it
    /// begins and all of the one in which it ends, unless buckets are shorter than an hour.
    pub async fn usage(&self, period: &Period) -> Result<Vec<Row>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(statement(period)))
            .bind(period.from * unit(period))
            .bind(period.to * unit(period))
            .bind(period.limit);
        for (_, values) in &period.only {
            for value in values {
                query = query.bind(&**value);
            }
        }
        let rows = query.fetch_all(&self.pool).await.map_err(StoreError)?;
        let groups = period.groups.len();
        rows.iter()
            .map(|row| read(row, groups).map_err(StoreError))
            .collect()
    }

    /// What was billed of every worker's life that ended an event since a moment, in microseconds.
    pub async fn workers(&self, since_us: i64) -> Result<Vec<WorkerTotals>, StoreError> {
        let rows = sqlx::query(
            "SELECT boot, model, requests, prompt_tokens, cached_tokens, completion_tokens, last_us \
             FROM workers WHERE last_us >= $1 ORDER BY last_us, boot",
        )
        .bind(since_us)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError)?;
        rows.iter()
            .map(|row| read_worker(row).map_err(StoreError))
            .collect()
    }

    /// How many entries of the outbox could not be read.
    pub async fn dead_letters(&self) -> Result<i64, StoreError> {
        sqlx::query("SELECT COUNT(*) FROM dead_letters")
            .fetch_one(&self.pool)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(StoreError)
    }
}

fn by_events(period: &Period) -> bool {
    period.width > 0 && period.width % HOUR != 0
}

/// The hours are counted in seconds, the events' times in microseconds.
fn unit(period: &Period) -> i64 {
    if by_events(period) { 1_000_000 } else { 1 }
}

fn statement(period: &Period) -> String {
    let (table, time, requests) = if by_events(period) {
        let requests = "CASE WHEN part = 0 THEN 1 ELSE 0 END";
        ("events", "time_us", requests)
    } else {
        ("usage_hours", "hour", "requests")
    };
    let mut columns = Vec::new();
    if period.width > 0 {
        let width = period.width * unit(period);
        columns.push(format!("{time} / {width} * {}", period.width));
    }
    columns.extend(period.groups.iter().map(|group| group.column().to_owned()));
    let sums = [
        requests,
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "cost_nanodollars",
    ];
    // PostgreSQL sums 64 bits into a NUMERIC.
    let sums = sums.map(|sum| format!("CAST(SUM({sum}) AS BIGINT)"));
    let selected = [&columns[..], &sums[..]].concat().join(", ");
    let mut conditions = vec![format!("{time} >= $1"), format!("{time} < $2")];
    // $3 is the limit.
    let mut number = 4;
    for (group, values) in &period.only {
        let places: Vec<String> = (number..number + values.len())
            .map(|number| format!("${number}"))
            .collect();
        number += values.len();
        conditions.push(format!("{} IN ({})", group.column(), places.join(", ")));
    }
    let conditions = conditions.join(" AND ");
    let order = if columns.is_empty() {
        // A sum over nothing would be one row of nothing.
        "HAVING COUNT(*) > 0".to_owned()
    } else {
        let places: Vec<String> = (1..=columns.len()).map(|place| place.to_string()).collect();
        let places = places.join(", ");
        format!("GROUP BY {places} ORDER BY {places}")
    };
    format!("SELECT {selected} FROM {table} WHERE {conditions} {order} LIMIT $3")
}

fn read(row: &AnyRow, groups: usize) -> sqlx::Result<Row> {
    let buckets = row.len() - groups - 6;
    let first = buckets + groups;
    Ok(Row {
        bucket: if buckets == 1 { row.try_get(0)? } else { 0 },
        groups: (buckets..first)
            .map(|index| row.try_get(index))
            .collect::<sqlx::Result<_>>()?,
        totals: Totals {
            requests: row.try_get(first)?,
            prompt_tokens: row.try_get(first + 1)?,
            cached_tokens: row.try_get(first + 2)?,
            completion_tokens: row.try_get(first + 3)?,
            reasoning_tokens: row.try_get(first + 4)?,
            cost_nanodollars: row.try_get(first + 5)?,
        },
    })
}

fn read_worker(row: &AnyRow) -> sqlx::Result<WorkerTotals> {
    Ok(WorkerTotals {
        boot: row.try_get(0)?,
        model: row.try_get(1)?,
        requests: row.try_get(2)?,
        prompt_tokens: row.try_get(3)?,
        cached_tokens: row.try_get(4)?,
        completion_tokens: row.try_get(5)?,
        last_us: row.try_get(6)?,
    })
}

// === impl Group ===

impl Group {
    fn column(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Key => "key_name",
            Self::Plan => "plan",
            Self::Model => "model",
        }
    }
}

// === impl Totals ===

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.cost_nanodollars += other.cost_nanodollars;
    }
}
