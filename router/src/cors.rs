//! CORS: which web pages may use the API.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue};

use crate::config::CorsOrigins;

/// Response headers that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
     x-ratelimit-limit-tokens-day, x-ratelimit-remaining-tokens-day, x-ratelimit-reset-tokens-day, \
     x-ratelimit-limit-spend, x-ratelimit-remaining-spend, x-ratelimit-reset-spend, \
     x-ratelimit-limit-concurrent, x-ratelimit-remaining-concurrent",
);
/// Allowed headers if the browser does not list those that the page will send.
const USUAL_HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type");

/// Adds the CORS headers of any response.
pub(crate) fn allow(origins: &CorsOrigins, asked: &HeaderMap, answer: &mut HeaderMap) {
    answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    match origins {
        CorsOrigins::Any => {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        CorsOrigins::Listed(list) => {
            // The response differs by origin, which caches must know.
            answer.insert(VARY, HeaderValue::from_static("origin"));
            if let Some(origin) = asked.get(ORIGIN).filter(|origin| list.contains(origin)) {
                answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
        }
    }
}

/// Adds the headers of a preflight response. SDKs send headers of their own, so all requested headers are
/// allowed.
pub(crate) fn preflight(asked: &HeaderMap, answer: &mut HeaderMap) {
    let headers = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let headers = headers.cloned().unwrap_or(USUAL_HEADERS);
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
    let methods = HeaderValue::from_static("GET, POST, OPTIONS");
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}
