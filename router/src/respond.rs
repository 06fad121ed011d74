//! Response heads: content types, and headers that all responses have.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::accept::Accepted;
use crate::body::{Content, Metered};
use crate::config::Config;
use crate::cors;
use crate::meter::Meter;
use crate::organization::Forwarded;
use crate::reply::EventBody;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const OPENAI_VERSION: HeaderName = HeaderName::from_static("openai-version");
/// Tells nginx and compatible proxies not to buffer the stream.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Capacity for all headers including those of limits, reserved once.
const MOST_HEADERS: usize = 32;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// A complete JSON response.
pub(crate) fn json(status: StatusCode, body: Bytes) -> Response<Content> {
    let mut response = Response::new(Content::Whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An SSE stream.
pub(crate) fn events(body: EventBody) -> Response<Content> {
    let mut response = Response::new(Content::Events(Box::new(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The ledger's response, unchanged.
pub(crate) fn forwarded(answer: Response<Forwarded>) -> Response<Content> {
    answer.map(|body| Content::Forwarded(Box::new(body)))
}

/// The response to a CORS preflight.
pub(crate) fn preflight(asked: &HeaderMap) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::preflight(asked, response.headers_mut());
    response
}

/// Adds the headers that all responses have, and attaches the meter to the body.
pub(crate) fn finish(
    config: &Config,
    accepted: &Accepted,
    response: Response<Content>,
    mut meter: Meter,
) -> Response<Metered> {
    let (mut head, mut content) = response.into_parts();
    if let Content::Whole(body) = &mut content {
        if head.status != StatusCode::NO_CONTENT {
            head.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        if accepted.head.method == Method::HEAD {
            body.clear();
        }
    }
    head.headers.reserve(MOST_HEADERS);
    let id = HeaderValue::from_str(accepted.id.as_str()).expect("an id should be a header value");
    let milliseconds = u64::try_from(accepted.arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
    head.headers.insert(REQUEST_ID, id);
    head.headers.insert(PROCESSING_MS, milliseconds.into());
    head.headers
        .insert(OPENAI_VERSION, HeaderValue::from_static("2020-10-01"));
    head.headers
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.headers.extend(meter.headers());
    cors::allow(&config.cors, &accepted.head.headers, &mut head.headers);
    let body = Metered::new(head.status, content, meter);
    Response::from_parts(head, body)
}
