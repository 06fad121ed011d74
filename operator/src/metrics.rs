//! The metrics of the operator, and the HTTP server for metrics and probes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, header};
use inferyard_listen::{Bounds, Socket};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The metrics of the operator.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) reconciles: Family<Reconciled, Counter>,
    pub(crate) api_requests: Family<ApiRequest, Counter>,
    pub(crate) reconcile_seconds: Histogram,
    pub(crate) queue_seconds: Histogram,
    pub(crate) leading: Gauge,
    pub(crate) watch_errors: Counter,
    /// Whether the operator has reached the API server once. Until then it is not ready.
    pub(crate) started: AtomicBool,
}

/// The labels of a reconcile: the kind of the resource, and `ok` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reconciled {
    pub(crate) kind: &'static str,
    pub(crate) result: &'static str,
}

/// The labels of a request to the API server, in the terms of RBAC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ApiRequest {
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("inferyard_operator");
        let reconciles = Family::default();
        let api_requests = Family::default();
        let seconds = || Histogram::new(exponential_buckets(0.001, 4.0, 9));
        let (reconcile_seconds, queue_seconds) = (seconds(), seconds());
        let leading = Gauge::default();
        let watch_errors = Counter::default();
        registry.register(
            "reconciles",
            "Number of reconciles, by kind and result",
            reconciles.clone(),
        );
        registry.register(
            "api_requests",
            "Number of requests to the API server, by verb and resource",
            api_requests.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Duration of a reconcile in seconds",
            reconcile_seconds.clone(),
        );
        registry.register(
            "queue_seconds",
            "Time in seconds that a change waits for its reconcile",
            queue_seconds.clone(),
        );
        registry.register(
            "leading",
            "1 while this operator holds the Lease and reconciles, otherwise 0",
            leading.clone(),
        );
        registry.register(
            "watch_errors",
            "Number of watches that failed and were restarted",
            watch_errors.clone(),
        );
        Self {
            registry,
            reconciles,
            api_requests,
            reconcile_seconds,
            queue_seconds,
            leading,
            watch_errors,
            started: AtomicBool::new(false),
        }
    }

    /// Counts a finished reconcile.
    pub(crate) fn reconciled(&self, kind: &'static str, result: &'static str) {
        let ended = Reconciled { kind, result };
        self.reconciles.get_or_create(&ended).inc();
    }

    fn respond(&self, path: &str) -> Response<Full<Bytes>> {
        let mut text = String::new();
        let status = match path {
            "/metrics" if encode(&mut text, &self.registry).is_ok() => StatusCode::OK,
            "/metrics" => StatusCode::INTERNAL_SERVER_ERROR,
            "/healthz" => StatusCode::OK,
            "/readyz" if self.started.load(Relaxed) => StatusCode::OK,
            "/readyz" => {
                "The API server was not reached yet.\n".clone_into(&mut text);
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => {
                "Not found. Paths: /metrics, /healthz, /readyz.\n".clone_into(&mut text);
                StatusCode::NOT_FOUND
            }
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }
}

/// Serves metrics and probes until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let answer =
        move |request: Request<Incoming>| std::future::ready(metrics.respond(request.uri().path()));
    let socket = Socket::Tcp(listener);
    inferyard_listen::serve(socket, Bounds::of_probes(), stop, Duration::ZERO, answer).await;
}
