//! `GET /metrics` on a port of its own; probes are served there too, without TLS and keys.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::accept::Needed;
use crate::probes::{self, Status};
use crate::telemetry::Telemetry;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const JSON: &str = "application/json";

/// Answers a scraper or a probe.
pub(crate) fn scrape(
    telemetry: &Telemetry,
    status: &Status<'_>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (code, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => (StatusCode::OK, JSON, probes::live()),
        (&Method::GET, "/readyz") => {
            let (code, body) = probes::details(status, Needed::asked(request.uri()));
            (code, JSON, body)
        }
        (&Method::GET, "/metrics") => match telemetry.render(status.fleet) {
            Ok(text) => (StatusCode::OK, OPEN_METRICS, text.into()),
            Err(error) => {
                tracing::error!(%error, "cannot write the metrics");
                plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "cannot write the metrics\n",
                )
            }
        },
        (_, "/metrics" | "/healthz" | "/readyz") => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n")
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "only /metrics, /healthz and /readyz are here\n",
        ),
    };
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, kind)
        .body(Full::from(text))
        .expect("a status and a static header should make a response")
}

fn plain(status: StatusCode, text: &'static str) -> (StatusCode, &'static str, Bytes) {
    (status, "text/plain; charset=utf-8", text.into())
}
