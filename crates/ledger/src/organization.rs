//! The usage API, in the shape of OpenAI's, behind admin keys.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use inferyard_keys::{KeyHash, KeyStore};
use tokio::time;

use crate::drain::Health;
use crate::store::Store;

mod admin;
mod answer;
mod api_keys;
mod costs;
mod pages;
mod query;
mod usage;

use answer::ApiError;

/// How long the store may take to say that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// All that is served.
pub(crate) fn app(
    store: Store,
    health: Arc<Health>,
    admin_keys: Vec<KeyHash>,
    key_store: Option<KeyStore>,
) -> Router {
    let organization = Router::new()
        .route("/usage/completions", get(usage::completions))
        .route("/costs", get(costs::costs))
        .with_state(store.clone())
        .merge(key_store.map(api_keys::routes).unwrap_or_default())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::<[KeyHash]>::from(admin_keys),
            admin::check,
        ));
    Router::new()
        .nest("/v1/organization", organization)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state((store, health)))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

/// Whether events come in and are stored.
async fn ready(State((store, health)): State<(Store, Arc<Health>)>) -> (StatusCode, &'static str) {
    if !health.source.load(Ordering::Relaxed) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the outbox cannot be reached\n",
        );
    }
    if !health.store.load(Ordering::Relaxed) {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not take events\n",
        );
    }
    match time::timeout(READY_TIMEOUT, store.answers()).await {
        Ok(true) => (StatusCode::OK, "ok\n"),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not answer, or is a standby\n",
        ),
    }
}

async fn unknown(method: axum::http::Method, uri: axum::http::Uri) -> ApiError {
    ApiError::UnknownPath {
        method,
        path: uri.path().chars().take(200).collect(),
    }
}

async fn wrong_method(method: axum::http::Method) -> ApiError {
    ApiError::WrongMethod { method }
}
