//! Queries: sums over time, dimensions and workers.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError};

/// Sums are stored per hour, in seconds; finer ones are computed from the events.
const HOUR: i64 = 3_600;

/// A dimension that sums can be grouped and filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// The account that pays.
    Account,
    /// The key, within its account.
    Key,
    /// The plan.
    Plan,
    /// The model.
    Model,
}

/// A query for sums.
#[derive(Debug, Clone, Default)]
pub struct Period {
    /// Start of the period, in seconds since the Unix epoch.
    pub from: i64,
    /// End of the period, exclusive, in seconds since the Unix epoch.
    pub to: i64,
    /// Length of a bucket in seconds; 0: one bucket for the whole period.
    pub width: i64,
    /// Dimensions that rows are grouped by.
    pub group_by: Vec<Dimension>,
    /// Values of a dimension that are counted; a dimension without a filter counts all.
    pub filters: Vec<(Dimension, Vec<String>)>,
    /// Most rows of the result.
    pub limit: i64,
}

/// The sums of one bucket and one combination of dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Start of the bucket, in seconds since the Unix epoch; 0 if there is one for the whole period.
    pub bucket: i64,
    /// Values of the dimensions of [`Period::group_by`], in their order.
    pub groups: Vec<String>,
    /// The sums.
    pub totals: Totals,
}

/// Sums over usage events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of requests.
    pub requests: i64,
    /// Prompt tokens, including cached ones.
    pub prompt_tokens: i64,
    /// Prompt tokens that came from the KV cache.
    pub cached_tokens: i64,
    /// Completion tokens, including reasoning.
    pub completion_tokens: i64,
    /// Completion tokens that were reasoning.
    pub reasoning_tokens: i64,
    /// Cost in nano-dollars (10⁻⁹ $).
    pub cost_nanodollars: i64,
}

/// What was billed for one worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerTotals {
    /// Boot ID of the process, as [`instance_text`](crate::instance_text) writes it.
    pub instance: String,
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
    /// Time of its last event, in microseconds since the Unix epoch.
    pub last_us: i64,
}

// === impl Store ===

impl Store {
    /// Sums of a period, ordered by bucket and dimensions. Unless buckets are shorter than an hour, the hours in which
    /// the period starts and ends count as a whole.
    pub async fn usage(&self, period: &Period) -> Result<Vec<Row>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(statement(period)))
            .bind(period.from * unit(period))
            .bind(period.to * unit(period))
            .bind(period.limit);
        for (_, values) in &period.filters {
            for value in values {
                query = query.bind(&**value);
            }
        }
        let rows = query.fetch_all(&self.pool).await.map_err(StoreError)?;
        let groups = period.group_by.len();
        rows.iter()
            .map(|row| read(row, groups).map_err(StoreError))
            .collect()
    }

    /// What was billed for each worker process with an event since `since_us` (microseconds since the Unix epoch).
    pub async fn workers(&self, since_us: i64) -> Result<Vec<WorkerTotals>, StoreError> {
        let rows = sqlx::query(
            "SELECT instance, model, requests, prompt_tokens, cached_tokens, completion_tokens, last_us \
             FROM workers WHERE last_us >= $1 ORDER BY last_us, instance",
        )
        .bind(since_us)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError)?;
        rows.iter()
            .map(|row| read_worker(row).map_err(StoreError))
            .collect()
    }

    /// Number of entries in `dead_letters`.
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
    columns.extend(
        period
            .group_by
            .iter()
            .map(|group| group.column().to_owned()),
    );
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
    for (group, values) in &period.filters {
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
        instance: row.try_get(0)?,
        model: row.try_get(1)?,
        requests: row.try_get(2)?,
        prompt_tokens: row.try_get(3)?,
        cached_tokens: row.try_get(4)?,
        completion_tokens: row.try_get(5)?,
        last_us: row.try_get(6)?,
    })
}

// === impl Dimension ===

impl Dimension {
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
