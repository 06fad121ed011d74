//! Pages of buckets: every bucket of the page is there, also an empty one.

use serde::Serialize;

use super::answer::ApiError;
use super::query::{MOST_RESULTS, UsageQuery, page_name};
use crate::store::{Dimension, Row, Store};

/// OpenAI's page.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "OpenAI names it so")]
pub(super) struct Page<R> {
    object: &'static str,
    data: Vec<Bucket<R>>,
    has_more: bool,
    next_page: Option<String>,
}

#[derive(Serialize)]
struct Bucket<R> {
    object: &'static str,
    start_time: i64,
    end_time: i64,
    results: Vec<R>,
}

/// Queries the store: one result for each row, in the bucket that it belongs to.
pub(super) async fn page<R>(
    store: &Store,
    query: &UsageQuery,
    result: impl Fn(&Row, &UsageQuery) -> R,
) -> Result<Page<R>, ApiError> {
    let period = &query.period;
    let rows = store.usage(period).await.map_err(ApiError::Store)?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST_RESULTS {
        return Err(ApiError::TooMany(MOST_RESULTS));
    }
    let mut rows = rows.iter().peekable();
    let mut data = Vec::new();
    let mut start = period.from;
    while start < period.to {
        let mut results = Vec::new();
        while let Some(row) = rows.next_if(|row| row.bucket == start) {
            results.push(result(row, query));
        }
        let end = start + period.width;
        data.push(Bucket {
            object: "bucket",
            start_time: start,
            end_time: end,
            results,
        });
        start = end;
    }
    Ok(Page {
        object: "page",
        data,
        has_more: query.next.is_some(),
        next_page: query.next.map(page_name),
    })
}

// === impl UsageQuery ===

impl UsageQuery {
    /// The value of a dimension in a row; `None` if rows are not grouped by it.
    pub(super) fn value(&self, row: &Row, group: Dimension) -> Option<String> {
        let index = self.period.group_by.iter().position(|own| *own == group)?;
        row.groups.get(index).cloned()
    }
}
