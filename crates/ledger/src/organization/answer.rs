//! The error table of the usage API: statuses, codes and public texts.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store::StoreError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(
        "You didn't provide an admin key. Send it in the header `Authorization: Bearer YOUR_KEY`."
    )]
    NoKey,
    #[error("Incorrect admin key provided. Keys for inference are no admin keys.")]
    WrongKey,
    #[error("Unknown request URL: {method} {path}.")]
    UnknownPath { method: Method, path: String },
    #[error("Not allowed to {method} on this URL.")]
    WrongMethod { method: Method },
    #[error("Invalid value for '{param}': {expected}.")]
    Invalid {
        param: &'static str,
        expected: String,
    },
    #[error("Missing required parameter: '{0}'.")]
    Missing(&'static str),
    #[error("Unknown parameter: '{0}'.")]
    UnknownParameter(String),
    #[error("The page would have more than {0} results. Ask for fewer buckets or groups.")]
    TooMany(i64),
    #[error("The ledger's store does not answer. Try again in a moment.")]
    Store(#[source] StoreError),
}

/// OpenAI's error object.
#[derive(Serialize)]
struct Body {
    error: ErrorObject,
}

#[derive(Serialize)]
struct ErrorObject {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

// === impl ApiError ===

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Store(error) = &self {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a question could not be answered"
            );
        }
        let (status, code) = match &self {
            Self::NoKey => (StatusCode::UNAUTHORIZED, None),
            Self::WrongKey => (StatusCode::UNAUTHORIZED, Some("invalid_api_key")),
            Self::UnknownPath { .. } => (StatusCode::NOT_FOUND, Some("unknown_url")),
            Self::WrongMethod { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported"))
            }
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, Some("invalid_value")),
            Self::Missing(_) => (StatusCode::BAD_REQUEST, Some("missing_required_parameter")),
            Self::UnknownParameter(_) => (StatusCode::BAD_REQUEST, Some("unknown_parameter")),
            Self::TooMany(_) => (StatusCode::BAD_REQUEST, Some("too_many_results")),
            Self::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, Some("ledger_unavailable")),
        };
        let r#type = if status.is_server_error() {
            "server_error"
        } else {
            "invalid_request_error"
        };
        let param = match &self {
            Self::Invalid { param, .. } | Self::Missing(param) => Some((*param).to_owned()),
            Self::UnknownParameter(param) => Some(param.clone()),
            _ => None,
        };
        let error = ErrorObject {
            message: self.to_string(),
            r#type,
            param,
            code,
        };
        let mut response = (status, Json(Body { error })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
