//! `GET /v1/organization/usage/completions`: tokens and requests over time.

use axum::Json;
use axum::extract::{Query, State};
use serde::Serialize;

use super::answer::ApiError;
use super::pages::{Page, page};
use super::query::{USAGE, UsageQuery};
use crate::store::{Dimension, Row, Store};

/// One group of a bucket. What Inferyard does not have is 0 or null, as OpenAI writes it.
#[derive(Serialize)]
pub(super) struct Completions {
    object: &'static str,
    input_tokens: i64,
    output_tokens: i64,
    input_cached_tokens: i64,
    input_uncached_tokens: i64,
    input_audio_tokens: i64,
    output_audio_tokens: i64,
    num_model_requests: i64,
    project_id: Option<String>,
    user_id: Option<String>,
    api_key_id: Option<String>,
    model: Option<String>,
    batch: Option<bool>,
    service_tier: Option<String>,
}

pub(super) async fn completions(
    State(store): State<Store>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Page<Completions>>, ApiError> {
    let query = USAGE.read(pairs)?;
    page(&store, &query, result).await.map(Json)
}

fn result(row: &Row, query: &UsageQuery) -> Completions {
    let totals = row.totals;
    Completions {
        object: "organization.usage.completions.result",
        input_tokens: totals.prompt_tokens,
        output_tokens: totals.completion_tokens,
        input_cached_tokens: totals.cached_tokens,
        input_uncached_tokens: totals.prompt_tokens - totals.cached_tokens,
        input_audio_tokens: 0,
        output_audio_tokens: 0,
        num_model_requests: totals.requests,
        project_id: query.value(row, Dimension::Account),
        user_id: None,
        api_key_id: query.value(row, Dimension::Key),
        model: query.value(row, Dimension::Model),
        batch: None,
        service_tier: None,
    }
}
