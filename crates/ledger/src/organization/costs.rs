//! `GET /v1/organization/costs`: money over days.

use axum::Json;
use axum::extract::{Query, State};
use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::ApiError;
use super::pages::{Page, page};
use super::query::{COSTS, UsageQuery};
use crate::money::dollars;
use crate::store::{Dimension, Row, Store};

/// One group of a day. A line item is a model.
#[derive(Serialize)]
pub(super) struct Costs {
    object: &'static str,
    amount: Amount,
    line_item: Option<String>,
    project_id: Option<String>,
    api_key_id: Option<String>,
    quantity: Option<i64>,
    quantity_unit: Option<&'static str>,
}

#[derive(Serialize)]
struct Amount {
    /// Exact, with up to nine decimals.
    value: Box<RawValue>,
    currency: &'static str,
}

pub(super) async fn costs(
    State(store): State<Store>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Page<Costs>>, ApiError> {
    let query = COSTS.read(pairs)?;
    page(&store, &query, result).await.map(Json)
}

fn result(row: &Row, query: &UsageQuery) -> Costs {
    let totals = row.totals;
    let line_item = query.value(row, Dimension::Model);
    let by_item = line_item.is_some();
    Costs {
        object: "organization.costs.result",
        amount: Amount {
            value: RawValue::from_string(dollars(totals.cost_nanodollars))
                .expect("a decimal number should be JSON"),
            currency: "usd",
        },
        line_item,
        project_id: query.value(row, Dimension::Account),
        api_key_id: query.value(row, Dimension::Key),
        quantity: by_item.then_some(totals.prompt_tokens + totals.completion_tokens),
        quantity_unit: by_item.then_some("tokens"),
    }
}
