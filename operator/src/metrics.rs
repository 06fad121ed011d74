//! What the operator counts, and the port on which it is asked for it.

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

/// What the operator counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) reconciles: Family<Reconciled, Counter>,
    pub(crate) api_requests: Family<ApiRequest, Counter>,
    pub(crate) reconcile_seconds: Histogram,
    pub(crate) queue_seconds: Histogram,
    pub(crate) leading: Gauge,
    pub(crate) watch_errors: Counter,
    /// It has reached the API server once.
    pub(crate) started: AtomicBool,
}

/// How a reconcile ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reconciled {
    pub(crate) kind: &'static str,
    pub(crate) result: &'static str,
}

/// A request to the API server.
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
            "Reconciles, by how they ended",
            reconciles.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server",
            api_requests.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "How long a reconcile takes",
            reconcile_seconds.clone(),
        );
        registry.register(
            "queue_seconds",
            "How long a change waits for its reconcile",
            queue_seconds.clone(),
        );
        registry.register(
            "leading",
            "1 while this operator is the one that works",
            leading.clone(),
        );
        registry.register(
            "watch_errors",
            "Watches that broke and were begun anew",
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

    /// Counts the end of a reconcile.
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
                "Here are /metrics, /healthz and /readyz.\n".clone_into(&mut text);
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

/// Answers scrapes and probes until the operator ends.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let answer =
        move |request: Request<Incoming>| std::future::ready(metrics.respond(request.uri().path()));
    let socket = Socket::Tcp(listener);
    inferyard_listen::serve(socket, Bounds::of_probes(), stop, Duration::ZERO, answer).await;
}
