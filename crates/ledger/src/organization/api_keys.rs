//! `/v1/organization/api_keys`: keys of the key store, made, listed, rotated and revoked over HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use inferyard_keys::{
    FieldError, Issued, KeyFields, KeyLimits, KeyStore, KeyText, LONGEST_PAGE, Page, ResolveError,
    RotateError, StoreError, StoredKey, WantedKey, dollars, nanodollars,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The largest body, in bytes.
const BODY_LIMIT: usize = 16 << 10;
/// How long replaced texts go on working where nothing else is said.
const OVERLAP: u64 = 24 * 3600;

/// The routes below `/v1/organization`. The caller has to check the admin key before.
pub(super) fn routes(store: KeyStore) -> Router {
    Router::new()
        .route("/api_keys", post(create).get(list))
        .route("/api_keys/{id}", get(one).delete(revoke))
        .route("/api_keys/{id}/rotate", post(rotate))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(store)
}

/// The body of `POST /v1/organization/api_keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    account: String,
    plan: String,
    expires_at: Option<u64>,
    #[serde(default)]
    limits: Option<Limits>,
}

/// The body of `POST /v1/organization/api_keys/{id}/rotate`; an empty one is a good one.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Rotate {
    overlap_seconds: Option<u64>,
}

/// The query of `GET /v1/organization/api_keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    limit: Option<usize>,
    after: Option<String>,
    account: Option<String>,
    called: Option<String>,
}

/// Limits as the API writes them.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrent_requests: Option<u64>,
    /// Dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_per_month: Option<String>,
}

/// A key as the API shows it.
#[derive(Serialize)]
struct Shown {
    object: &'static str,
    id: String,
    name: String,
    account: String,
    plan: String,
    redacted_value: String,
    created_at: u64,
    expires_at: Option<u64>,
    disabled: bool,
    limits: Option<Limits>,
    /// The text, in the one answer that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// What a request can fail with.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Body(String),
    #[error("{0}")]
    Field(#[from] FieldError),
    #[error("The body is larger than {BODY_LIMIT} bytes.")]
    TooLarge,
    #[error("There is no API key '{0}'.")]
    Unknown(String),
    #[error("The key cannot be rotated: {0}.")]
    Rotate(RotateError),
    #[error("The key store cannot be reached at the moment. Try again in a second.")]
    Store(#[from] StoreError),
}

type Answer<T> = Result<T, Refused>;

async fn create(
    State(store): State<KeyStore>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body: Create = read(&body?)?;
    let limits = body.limits.unwrap_or_default().read()?;
    let fields = KeyFields {
        name: body.name,
        account: body.account,
        plan: body.plan,
        expires: body.expires_at,
        limits,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let wanted = WantedKey::new(fields, now.map_or(0, |now| now.as_secs()))?;
    Ok(issued(store.create(wanted).await?))
}

async fn list(
    State(store): State<KeyStore>,
    query: Result<Query<List>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Query(query) = query.map_err(|error| Refused::Body(error.body_text()))?;
    let limit = query.limit.unwrap_or(20);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        let message = format!("limit: expected a number from 1 to {LONGEST_PAGE}, found {limit}");
        return Err(Refused::Body(message));
    }
    let (account, after) = (query.account.as_deref(), query.after.as_deref());
    let page = match &query.called {
        None => store.list(account, after, limit).await?,
        Some(_) if query.limit.is_some() || account.is_some() || after.is_some() => {
            let message = "called: expected no other parameter beside it";
            return Err(Refused::Body(message.to_owned()));
        }
        Some(called) => self::called(&store, called).await?,
    };
    let id = |key: Option<&StoredKey>| key.map(|key| key.id.clone());
    let (first, last) = (id(page.keys.first()), id(page.keys.last()));
    let data: Vec<_> = page.keys.into_iter().map(|key| shown(key, None)).collect();
    Ok(Json(json!({
        "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": page.more,
    })))
}

/// The keys that are called so: one, none, or some of the several of a name.
async fn called(store: &KeyStore, called: &str) -> Answer<Page> {
    if KeyText::is_formed_like(called) {
        let message = "called: this looks like the text of a key, which is a secret and belongs in \
                       no address: send its SHA-256";
        return Err(Refused::Body(message.to_owned()));
    }
    let ids = match store.resolve(called).await {
        Ok(id) => vec![id],
        Err(ResolveError::Unknown) => vec![],
        Err(ResolveError::Ambiguous(ids)) => ids,
        Err(ResolveError::Store(error)) => return Err(error.into()),
    };
    let mut page = Page::default();
    for id in ids {
        page.keys.extend(store.get(&id).await?);
    }
    Ok(page)
}

async fn one(State(store): State<KeyStore>, Path(id): Path<String>) -> Answer<Json<Shown>> {
    let key = store.get(&id).await?;
    let key = key.ok_or_else(|| Refused::unknown(&id))?;
    Ok(Json(shown(key, None)))
}

async fn rotate(
    State(store): State<KeyStore>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = body?;
    let Rotate { overlap_seconds } = match body.trim_ascii() {
        b"" => Rotate::default(),
        body => read(body)?,
    };
    let overlap = Duration::from_secs(overlap_seconds.unwrap_or(OVERLAP));
    match store.rotate(&id, overlap).await {
        Ok(rotated) => Ok(issued(rotated)),
        Err(RotateError::Unknown) => Err(Refused::unknown(&id)),
        Err(RotateError::Store(error)) => Err(error.into()),
        Err(error) => Err(Refused::Rotate(error)),
    }
}

async fn revoke(State(store): State<KeyStore>, Path(id): Path<String>) -> Answer<Json<Value>> {
    if !store.revoke(&id).await? {
        return Err(Refused::unknown(&id));
    }
    let object = "organization.api_key.deleted";
    Ok(Json(json!({"object": object, "id": id, "deleted": true})))
}

/// A body of JSON; what is wrong with it is said with its place.
fn read<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(|error| Refused::Body(format!("The body: {error}.")))
}

/// The response that has the text of a key; caches on its way must not store it.
fn issued(issued: Issued) -> Response {
    let body = Json(shown(issued.key, Some(&issued.text)));
    ([(CACHE_CONTROL, "no-store")], body).into_response()
}

fn shown(key: StoredKey, text: Option<&KeyText>) -> Shown {
    Shown {
        object: "organization.api_key",
        id: key.id,
        name: key.name,
        account: key.account,
        plan: key.plan,
        redacted_value: key.redacted,
        created_at: key.created,
        expires_at: key.expires,
        disabled: key.disabled,
        limits: key.limits.map(Limits::of),
        value: text.map(|text| text.reveal().to_owned()),
    }
}

// === impl Limits ===

impl Limits {
    fn read(self) -> Answer<KeyLimits> {
        let budget = self.budget_per_month.map(|text| {
            nanodollars(&text).ok_or_else(|| FieldError {
                field: "limits.budget_per_month",
                message: "expected dollars as a decimal string such as \"25.00\"".to_owned(),
            })
        });
        Ok(KeyLimits {
            requests_per_minute: self.requests_per_minute,
            requests_per_day: self.requests_per_day,
            requests_total: self.requests_total,
            tokens_per_minute: self.tokens_per_minute,
            tokens_per_day: self.tokens_per_day,
            concurrent_requests: self.concurrent_requests,
            budget_nanodollars: budget.transpose()?,
        })
    }

    fn of(limits: KeyLimits) -> Self {
        Self {
            requests_per_minute: limits.requests_per_minute,
            requests_per_day: limits.requests_per_day,
            requests_total: limits.requests_total,
            tokens_per_minute: limits.tokens_per_minute,
            tokens_per_day: limits.tokens_per_day,
            concurrent_requests: limits.concurrent_requests,
            budget_per_month: limits.budget_nanodollars.map(dollars),
        }
    }
}

// === impl Refused ===

impl Refused {
    fn unknown(id: &str) -> Self {
        Self::Unknown(id.chars().take(100).collect())
    }
}

impl From<BytesRejection> for Refused {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Self::TooLarge
        } else {
            Self::Body(rejection.body_text())
        }
    }
}

/// The error object of OpenAI.
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, kind, param, code) = match &self {
            Self::Body(_) => (StatusCode::BAD_REQUEST, "invalid_request_error", None, None),
            Self::Field(error) => (
                StatusCode::BAD_REQUEST,
                "invalid_request_error",
                Some(error.field),
                Some("invalid_value"),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request_error",
                None,
                None,
            ),
            Self::Unknown(_) => (
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                None,
                Some("not_found"),
            ),
            Self::Rotate(_) => (
                StatusCode::CONFLICT,
                "invalid_request_error",
                None,
                Some("not_rotated"),
            ),
            Self::Store(error) => {
                tracing::warn!(%error, "a request about keys failed");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "service_unavailable_error",
                    None,
                    Some("key_store_unavailable"),
                )
            }
        };
        let message = self.to_string();
        let error = json!({"message": message, "type": kind, "param": param, "code": code});
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests;
