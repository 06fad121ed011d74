//! Prometheus metrics of requests against workers.

use std::sync::Arc;

use inferyard_domain::ModelId;
use inferyard_placement::EndpointState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::place::Fleet;

mod by_model;
mod queue;

pub use by_model::{ByModel, OfModel};

use queue::QueueMetrics;

/// Metrics of one router's requests against workers.
#[derive(Debug)]
pub struct Metrics {
    placements: ByModel<PlacementLabels, Counter>,
    retries: ByModel<RetryLabels, Counter>,
    workers: Family<WorkerLabels, Gauge>,
    worker_requests: Family<ModelLabel, Gauge>,
    pub(crate) queue: QueueMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
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

// === impl OfModel ===

impl OfModel for PlacementLabels {
    fn model(&self) -> &Arc<str> {
        &self.model
    }
}

impl OfModel for RetryLabels {
    fn model(&self) -> &Arc<str> {
        &self.model
    }
}

// === impl Metrics ===

impl Metrics {
    /// Creates the metrics and registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            queue: QueueMetrics::new(registry),
            placements: ByModel::counters(),
            retries: ByModel::counters(),
            workers: Family::default(),
            worker_requests: Family::default(),
        };
        let help = "Placed requests, by whether the worker held a part of the prompt in its cache";
        registry.register("placements", help, metrics.placements.family());
        let help = "Attempts that failed before the first token and were retried";
        registry.register("retries", help, metrics.retries.family());
        let help = "Workers by their state as this router knows it";
        registry.register("workers", help, metrics.workers.clone());
        let help = "Requests of this router that run on workers";
        registry.register("worker_requests", help, metrics.worker_requests.clone());
        metrics
    }

    /// A request was placed. `cached`: its worker holds a part of the prompt.
    pub(crate) fn placed(&self, model: &ModelId, cached: bool) {
        let labels = PlacementLabels {
            model: model.shared(),
            prefix: if cached { "held" } else { "new" },
        };
        self.placements.with(&labels, count_one);
    }

    /// An attempt failed before the first token and is retried.
    pub(crate) fn retried(&self, model: &ModelId, reason: &'static str) {
        let labels = RetryLabels {
            model: model.shared(),
            reason,
        };
        self.retries.with(&labels, count_one);
    }

    /// Updates the gauges, and drops the metrics of models that no longer exist. Called before each scrape.
    pub fn refresh(&self, fleet: &Fleet) {
        self.workers.clear();
        self.worker_requests.clear();
        self.queue.clear();
        let exists = |model: &Arc<str>| fleet.serves(model);
        self.placements.keep(exists);
        self.retries.keep(exists);
        self.queue.keep(exists);
        fleet.each(|model, endpoints| {
            self.queue.show(model, &endpoints.waiting());
            for (worker, state) in endpoints.states() {
                self.show(model, worker.running(), &state);
            }
        });
    }

    fn show(&self, model: &ModelId, running: u32, state: &EndpointState) {
        let state = match state {
            EndpointState::Ready => "ready",
            EndpointState::Ejected => "ejected",
            EndpointState::Unhealthy => "unhealthy",
            EndpointState::Loading { .. } => "loading",
            EndpointState::Draining => "draining",
            EndpointState::OtherModel { .. } => "other_model",
            EndpointState::Unreachable => "unreachable",
        };
        let model = model.shared();
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
}

fn count_one(counter: &Counter) {
    counter.inc();
}

#[cfg(test)]
mod tests;
