//! Only admins ask: keys apart from those for inference, known by their hashes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use inferyard_keys::KeyHash;
use subtle::{Choice, ConstantTimeEq as _};

use super::answer::ApiError;

/// Lets a request pass if it has an admin key.
pub(super) async fn check(
    State(keys): State<Arc<[KeyHash]>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let text = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| bearer(value.as_bytes()))
        .ok_or(ApiError::NoKey)?;
    let hash = KeyHash::of(text);
    // All are compared, whichever it is: time tells nothing.
    let known = keys.iter().fold(Choice::from(0), |known, key| {
        known | key.0[..].ct_eq(&hash.0[..])
    });
    if !bool::from(known) {
        return Err(ApiError::WrongKey);
    }
    Ok(next.run(request).await)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, text) = value.split_at_checked(7)?;
    let text = text.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !text.is_empty()).then_some(text)
}
