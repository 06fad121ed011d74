//! The state of the worker for Prometheus, on a port of its own.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use inferyard_engine::state::{Outcome, State};
use inferyard_listen::{Bounds, Socket};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a scrape shows.
#[derive(Debug)]
struct Numbers(Arc<State>);

/// Answers scrapes until the worker ends.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>, shutdown: CancellationToken) {
    let mut registry = Registry::with_prefix("inferyard_worker");
    registry.register_collector(Box::new(Numbers(state)));
    let registry = Arc::new(registry);
    let scrape = move |request: Request<Incoming>| {
        let response = respond(&registry, request.method(), request.uri().path());
        std::future::ready(response)
    };
    let socket = Socket::Tcp(listener);
    inferyard_listen::serve(
        socket,
        Bounds::of_probes(),
        shutdown,
        Duration::ZERO,
        scrape,
    )
    .await;
}

fn respond(
    registry: &Registry,
    method: &Method,
    path: &str,
) -> Response<http_body_util::Full<Bytes>> {
    let mut text = String::new();
    let status = if path != "/metrics" || *method != Method::GET {
        "Metrics are at GET /metrics.\n".clone_into(&mut text);
        StatusCode::NOT_FOUND
    } else if prometheus_client::encoding::text::encode(&mut text, registry).is_ok() {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut response = Response::new(http_body_util::Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    );
    response
}

// === impl Numbers ===

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.0.snapshot();
        let totals = snapshot.totals;
        let load = &snapshot.load;
        let mut gauge = |name, help, value: u64| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge(
            "running_sequences",
            "Sequences that the engine computes now.",
            load.running as u64,
        )?;
        let queued = snapshot.queued + load.preempted;
        gauge(
            "queued_requests",
            "Requests that wait in the queue, including preempted ones.",
            queued as u64,
        )?;
        gauge("kv_used_tokens", "KV cells in use.", load.kv_used)?;
        gauge(
            "kv_cached_tokens",
            "KV cells that only cached prefixes use; they can be evicted.",
            load.kv_cached,
        )?;
        gauge(
            "kv_total_tokens",
            "Cells of the KV cache; a cell holds one token.",
            snapshot.capacity.kv_total_tokens,
        )?;
        let mut counter = |name, help, value: u64| {
            let value = ConstCounter::new(value);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        counter(
            "prompt_tokens",
            "Prompt tokens of requests that have ended.",
            totals.prompt,
        )?;
        counter(
            "cached_tokens",
            "Prompt tokens that were found in the KV cache.",
            totals.cached,
        )?;
        counter(
            "completion_tokens",
            "Tokens produced by requests that have ended.",
            totals.completion,
        )?;
        counter(
            "tokenized_bytes",
            "Bytes of prompts that the embedded engine tokenized, including those of refused requests.",
            self.0.tokenized_bytes(),
        )?;
        self.encode_outcomes(&mut encoder)
    }
}

impl Numbers {
    fn encode_outcomes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut requests = encoder.encode_descriptor(
            "requests",
            "Requests that have ended, by outcome.",
            None,
            MetricType::Counter,
        )?;
        for (outcome, count) in self.0.ended() {
            let labels = [("outcome", label(outcome))];
            ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::Disconnected => "dropped",
        Outcome::Failed(kind) => kind.label(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferyard_engine::event::{FailureKind, Usage};

    #[test]
    fn a_scrape_shows_the_state() {
        let state = Arc::new(State::new("m".to_owned(), 1));
        let usage = Usage {
            prompt_tokens: 5,
            completion_tokens: 7,
            ..Usage::default()
        };
        state.count(Outcome::Finished, usage);
        state.count(Outcome::Failed(FailureKind::SlowReader), Usage::default());
        let mut registry = Registry::with_prefix("inferyard_worker");
        registry.register_collector(Box::new(Numbers(state)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "inferyard_worker_running_sequences 0",
            "inferyard_worker_prompt_tokens_total 5",
            "inferyard_worker_completion_tokens_total 7",
            "inferyard_worker_requests_total{outcome=\"finished\"} 1",
            "inferyard_worker_requests_total{outcome=\"slow_reader\"} 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert_eq!(
            respond(&registry, &Method::GET, "/").status(),
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            respond(&registry, &Method::GET, "/metrics").status(),
            StatusCode::OK
        );
    }
}
