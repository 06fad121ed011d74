//! What a router counts, for Prometheus. No label and no value ever comes from a prompt.

use std::sync::Arc;

use inferyard_listen::Counts;
use inferyard_proto::worker::v1::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::place::{Fleet, Standing};

mod by_model;
mod connections;
mod line;
mod lines;

use by_model::{ByModel, OfModel};
use inferyard_admission::Metrics as LimitMetrics;
use line::LineMetrics;
use lines::Lines;

/// From a cached prompt on a GPU to a long one on a laptop.
const FIRST_TOKEN_SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
const REQUEST_SECONDS: [f64; 14] = [
    0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// The counters of one router.
pub(crate) struct Telemetry {
    registry: Registry,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Counts,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    tokens: ByModel<TokenLabels, Counter>,
    first_token: ByModel<ModelLabel, Histogram>,
    placements: ByModel<PlacementLabels, Counter>,
    retries: ByModel<RetryLabels, Counter>,
    workers: Family<WorkerLabels, Gauge>,
    worker_requests: Family<ModelLabel, Gauge>,
    pub(crate) limits: Arc<LimitMetrics>,
    pub(crate) line: LineMetrics,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlacementLabels {
    model: Arc<str>,
    prefix: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    model: Arc<str>,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    model: Arc<str>,
    state: &'static str,
}

/// One more.
fn count_one(counter: &Counter) {
    counter.inc();
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

of_model!(ModelLabel, TokenLabels, PlacementLabels, RetryLabels);

// === impl Telemetry ===

impl Telemetry {
    pub(crate) fn new() -> Self {
        let first_token: fn() -> Histogram = || Histogram::new(FIRST_TOKEN_SECONDS);
        let request_seconds: fn() -> Histogram = || Histogram::new(REQUEST_SECONDS);
        let mut registry = Registry::with_prefix("inferyard_router");
        let mut telemetry = Self {
            limits: Arc::new(LimitMetrics::new(&mut registry)),
            line: LineMetrics::new(&mut registry),
            lines: Lines::default(),
            registry,
            in_flight: Gauge::default(),
            connections: Counts::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_seconds),
            tokens: ByModel::counters(),
            first_token: ByModel::new(Family::new_with_constructor(first_token)),
            placements: ByModel::counters(),
            retries: ByModel::counters(),
            workers: Family::default(),
            worker_requests: Family::default(),
        };
        telemetry.register();
        telemetry
    }

    /// Adds what others count.
    pub(crate) fn add(&mut self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry);
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let in_flight = self.in_flight.clone();
        registry.register(
            "requests_in_flight",
            "Requests without their last byte",
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
        let help = "From the head of a request to the last byte of its answer";
        registry.register_with_unit("request", help, Unit::Seconds, seconds);
        let help = "Tokens of prompts, of their cached part, and of answers as produced";
        registry.register("tokens", help, self.tokens.family());
        let help = "From the head of a request to its first token";
        let first_token = self.first_token.family();
        registry.register_with_unit("time_to_first_token", help, Unit::Seconds, first_token);
        let help = "Placed requests, by whether the worker held a part of the prompt";
        registry.register("placements", help, self.placements.family());
        let help = "Failures before the first token, after which another worker was looked for";
        registry.register("retries", help, self.retries.family());
        let help = "Workers by what this router knows of them";
        registry.register("workers", help, self.workers.clone());
        let help = "Requests of this router that are with workers";
        registry.register("worker_requests", help, self.worker_requests.clone());
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

    pub(crate) fn generated(&self, model: &Arc<str>, usage: &Usage, first_token: Option<f64>) {
        let add = |kind, count: u32| {
            let model = Arc::clone(model);
            let labels = TokenLabels { model, kind };
            self.tokens.with(&labels, |tokens| {
                tokens.inc_by(u64::from(count));
            });
        };
        add("prompt", usage.prompt_tokens);
        add("cached", usage.cached_tokens);
        add("completion", usage.completion_tokens);
        if let Some(seconds) = first_token {
            let model = Arc::clone(model);
            let labels = ModelLabel { model };
            self.first_token
                .with(&labels, |first| first.observe(seconds));
        }
    }

    pub(crate) fn placed(&self, model: &Arc<str>, cached: bool) {
        let labels = PlacementLabels {
            model: Arc::clone(model),
            prefix: if cached { "held" } else { "new" },
        };
        self.placements.with(&labels, count_one);
    }

    pub(crate) fn retried(&self, model: &Arc<str>, reason: &'static str) {
        let labels = RetryLabels {
            model: Arc::clone(model),
            reason,
        };
        self.retries.with(&labels, count_one);
    }

    fn show(&self, model: &Arc<str>, running: u32, standing: &Standing) {
        let state = match standing {
            Standing::Ready => "ready",
            Standing::Ejected => "ejected",
            Standing::Unhealthy => "unhealthy",
            Standing::Loading { .. } => "loading",
            Standing::Draining => "draining",
            Standing::OtherModel { .. } => "other_model",
            Standing::Unreachable => "unreachable",
        };
        let model = Arc::clone(model);
        let requests = ModelLabel {
            model: Arc::clone(&model),
        };
        self.worker_requests
            .get_or_create(&requests)
            .inc_by(i64::from(running));
        self.workers
            .get_or_create(&WorkerLabels { model, state })
            .inc();
    }

    /// Everything as text in the OpenMetrics format.
    pub(crate) fn render(&self, fleet: &Fleet) -> Result<String, std::fmt::Error> {
        self.workers.clear();
        self.worker_requests.clear();
        self.line.clear();
        let exists = |model: &Arc<str>| fleet.crew(model).is_some();
        self.tokens.keep(exists);
        self.first_token.keep(exists);
        self.placements.keep(exists);
        self.retries.keep(exists);
        self.line.keep(exists);
        fleet.each(|model, crew| {
            self.line.show(model, &crew.waiting());
            for (worker, standing) in crew.standings() {
                self.show(model, worker.running(), &standing);
            }
        });
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
