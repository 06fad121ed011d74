//! `GET /metrics`, on a port of its own.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::Telemetry;
use crate::place::Fleet;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers a scraper.
pub(crate) fn scrape(
    telemetry: &Telemetry,
    fleet: &Fleet,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match telemetry.render(fleet) {
            Ok(text) => (StatusCode::OK, OPEN_METRICS, text),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "cannot write the metrics\n",
                )
            }
        },
        (_, "/metrics") => plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"),
        _ => plain(StatusCode::NOT_FOUND, "only /metrics is here\n"),
    };
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .body(Full::from(text))
        .expect("a status and a static header should make a response")
}

fn plain(status: StatusCode, text: &str) -> (StatusCode, &'static str, String) {
    (status, "text/plain; charset=utf-8", text.to_owned())
}
