//! What is counted about requests that wait for a worker with room.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::by_model::{ByModel, OfModel};
use crate::place::PlaceError;
use crate::place::{Placed, Seeker};

const WAIT_SECONDS: [f64; 14] = [
    0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The counters of the lines of all models.
#[derive(Debug)]
pub(crate) struct LineMetrics {
    waiting: Family<LineLabels, Gauge>,
    waits: ByModel<LineLabels, Histogram>,
    refusals: ByModel<RefusalLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabels {
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

impl OfModel for LineLabels {
    fn model(&self) -> &Arc<str> {
        &self.model
    }
}

impl OfModel for RefusalLabels {
    fn model(&self) -> &Arc<str> {
        &self.model
    }
}

// === impl LineMetrics ===

impl LineMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(WAIT_SECONDS);
        let metrics = Self {
            waiting: Family::default(),
            waits: ByModel::new(Family::new_with_constructor(seconds)),
            refusals: ByModel::counters(),
        };
        let help = "Requests that wait for a worker with room, by the priority of their plans";
        registry.register("waiting_requests", help, metrics.waiting.clone());
        let help = "How long those waited that were not placed at once";
        registry.register_with_unit("wait", help, Unit::Seconds, metrics.waits.family());
        let help = "Requests that found the line full, or whose time in it was over";
        registry.register("wait_refusals", help, metrics.refusals.family());
        metrics
    }

    /// A request found a worker, or found none in time.
    pub(crate) fn sought(&self, seeker: &Seeker, found: &Result<Placed, PlaceError>) {
        let (model, priority) = (Arc::clone(seeker.model()), seeker.priority());
        let reason = match found {
            Ok(placed) if placed.decided.waited == Duration::ZERO => return,
            Ok(placed) => {
                let labels = LineLabels { model, priority };
                let seconds = placed.decided.waited.as_secs_f64();
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

    /// Drops what was counted of all other models.
    pub(super) fn keep(&self, exists: impl Fn(&Arc<str>) -> bool) {
        self.waits.keep(&exists);
        self.refusals.keep(&exists);
    }

    pub(super) fn clear(&self) {
        self.waiting.clear();
    }

    /// So many wait now.
    pub(super) fn show(&self, model: &Arc<str>, waiting: &[(i32, usize)]) {
        for &(priority, count) in waiting {
            let model = Arc::clone(model);
            let labels = LineLabels { model, priority };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.waiting.get_or_create(&labels).set(count);
        }
    }
}
