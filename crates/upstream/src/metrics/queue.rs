//! Prometheus metrics of the queues.

use std::sync::Arc;
use std::time::Duration;

use inferyard_domain::ModelId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::by_model::{ByModel, OfModel};
use crate::place::{PlaceError, Placed, PlacementRequest};

/// Bucket bounds in seconds.
const WAIT_SECONDS: [f64; 14] = [
    0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Metrics of the queues of all models.
#[derive(Debug)]
pub(crate) struct QueueMetrics {
    waiting: Family<QueueLabels, Gauge>,
    waits: ByModel<QueueLabels, Histogram>,
    refusals: ByModel<RefusalLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    model: Arc<str>,
    priority: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    model: Arc<str>,
    priority: i32,
    reason: &'static str,
}

// === impl OfModel ===

impl OfModel for QueueLabels {
    fn model(&self) -> &Arc<str> {
        &self.model
    }
}

impl OfModel for RefusalLabels {
    fn model(&self) -> &Arc<str> {
        &self.model
    }
}

// === impl QueueMetrics ===

impl QueueMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(WAIT_SECONDS);
        let metrics = Self {
            waiting: Family::default(),
            waits: ByModel::new(Family::new_with_constructor(seconds)),
            refusals: ByModel::counters(),
        };
        let help = "Requests that wait for a worker with room, by the priority of their plans";
        registry.register("waiting_requests", help, metrics.waiting.clone());
        let help = "Time in the queue of requests that were not placed at once";
        registry.register_with_unit("wait", help, Unit::Seconds, metrics.waits.family());
        let help = "Requests that found the queue full or waited too long";
        registry.register("wait_refusals", help, metrics.refusals.family());
        metrics
    }

    /// Records the result of a placement; counts nothing if the request did not wait.
    pub(crate) fn sought(&self, placement: &PlacementRequest, found: &Result<Placed, PlaceError>) {
        let (model, priority) = (placement.model().shared(), placement.priority());
        let reason = match found {
            Ok(placed) if placed.decision.waited == Duration::ZERO => return,
            Ok(placed) => {
                let labels = QueueLabels { model, priority };
                let seconds = placed.decision.waited.as_secs_f64();
                return self.waits.with(&labels, |waits| waits.observe(seconds));
            }
            Err(PlaceError::QueueFull { .. }) => "queue_full",
            Err(PlaceError::WaitOver { .. }) => "wait_over",
            Err(PlaceError::Loading { .. } | PlaceError::NoWorker | PlaceError::ShuttingDown) => {
                return;
            }
        };
        let labels = RefusalLabels {
            model,
            priority,
            reason,
        };
        self.refusals.with(&labels, |refusals| {
            refusals.inc();
        });
    }

    /// Removes the metrics of models that no longer exist.
    pub(super) fn keep(&self, exists: impl Fn(&Arc<str>) -> bool) {
        self.waits.keep(&exists);
        self.refusals.keep(&exists);
    }

    pub(super) fn clear(&self) {
        self.waiting.clear();
    }

    /// Sets how many requests of a model wait, per priority.
    pub(super) fn show(&self, model: &ModelId, waiting: &[(i32, usize)]) {
        for &(priority, count) in waiting {
            let model = model.shared();
            let labels = QueueLabels { model, priority };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.waiting.get_or_create(&labels).set(count);
        }
    }
}
