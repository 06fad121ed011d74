//! Prometheus metrics of a router. Labels and values never contain parts of a prompt.

use std::sync::Arc;

use inferyard_domain::ModelId;
use inferyard_listen::Counts;
use inferyard_proto::worker::v1::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

mod connections;
mod lines;

use inferyard_admission::Metrics as LimitMetrics;
use inferyard_upstream::{ByModel, Fleet, Metrics as UpstreamMetrics, OfModel};
use lines::Lines;

/// Buckets in seconds: from a cached prompt on a GPU to a long one on a laptop.
const FIRST_TOKEN_SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
const REQUEST_SECONDS: [f64; 14] = [
    0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// The metrics of one router.
pub(crate) struct Telemetry {
    registry: Registry,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Counts,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    tokens: ByModel<TokenLabels, Counter>,
    first_token: ByModel<ModelLabel, Histogram>,
    pub(crate) limits: Arc<LimitMetrics>,
    pub(crate) upstream: Arc<UpstreamMetrics>,
    pub(crate) lines: Lines,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    model: Arc<str>,
    kind: &'static str,
}

// === impl OfModel ===

macro_rules! of_model {
    ($($labels:ty),+) => {
        $(impl OfModel for $labels {
            fn model(&self) -> &Arc<str> {
                &self.model
            }
        })+
    };
}

of_model!(ModelLabel, TokenLabels);

// === impl Telemetry ===

impl Telemetry {
    pub(crate) fn new() -> Self {
        let first_token: fn() -> Histogram = || Histogram::new(FIRST_TOKEN_SECONDS);
        let request_seconds: fn() -> Histogram = || Histogram::new(REQUEST_SECONDS);
        let mut registry = Registry::with_prefix("inferyard_router");
        let mut telemetry = Self {
            limits: Arc::new(LimitMetrics::new(&mut registry)),
            upstream: Arc::new(UpstreamMetrics::new(&mut registry)),
            lines: Lines::default(),
            registry,
            in_flight: Gauge::default(),
            connections: Counts::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_seconds),
            tokens: ByModel::counters(),
            first_token: ByModel::new(Family::new_with_constructor(first_token)),
        };
        telemetry.register();
        telemetry
    }

    /// Registers metrics of other crates.
    pub(crate) fn add(&mut self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry);
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let in_flight = self.in_flight.clone();
        registry.register(
            "requests_in_flight",
            "Requests between their head and the last byte of their answer",
            in_flight,
        );
        connections::register(registry, &self.connections);
        let requests = self.requests.clone();
        registry.register(
            "requests",
            "Requests by route, status and outcome",
            requests,
        );
        let seconds = self.request_seconds.clone();
        let help = "Time from the head of a request to the last byte of its answer";
        registry.register_with_unit("request", help, Unit::Seconds, seconds);
        let help = "Tokens of prompts, of cached prefixes, and of completions as produced";
        registry.register("tokens", help, self.tokens.family());
        let help = "Time from the head of a request to its first token";
        let first_token = self.first_token.family();
        registry.register_with_unit("time_to_first_token", help, Unit::Seconds, first_token);
    }

    pub(crate) fn answered(
        &self,
        route: &'static str,
        status: u16,
        code: &'static str,
        seconds: f64,
    ) {
        let labels = RequestLabels {
            route,
            status,
            code,
        };
        self.requests.get_or_create(&labels).inc();
        let route = RouteLabel { route };
        self.request_seconds.get_or_create(&route).observe(seconds);
    }

    pub(crate) fn generated(&self, model: &ModelId, usage: &Usage, first_token: Option<f64>) {
        let add = |kind, count: u32| {
            let model = model.shared();
            let labels = TokenLabels { model, kind };
            self.tokens.with(&labels, |tokens| {
                tokens.inc_by(u64::from(count));
            });
        };
        add("prompt", usage.prompt_tokens);
        add("cached", usage.cached_tokens);
        add("completion", usage.completion_tokens);
        if let Some(seconds) = first_token {
            let model = model.shared();
            let labels = ModelLabel { model };
            self.first_token
                .with(&labels, |first| first.observe(seconds));
        }
    }

    /// All metrics as text in the OpenMetrics format.
    pub(crate) fn render(&self, fleet: &Fleet) -> Result<String, std::fmt::Error> {
        let exists = |model: &Arc<str>| fleet.serves(model);
        self.tokens.keep(exists);
        self.first_token.keep(exists);
        self.upstream.refresh(fleet);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
