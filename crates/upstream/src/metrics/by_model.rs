//! Metrics labelled by model, removed with their model: a cluster may create and delete many models.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};

/// Labels that include a model.
pub trait OfModel {
    /// The id of the model.
    fn model(&self) -> &Arc<str>;
}

/// A metric family that tracks its label sets, because `Family` cannot list them.
#[derive(Debug)]
pub struct ByModel<L, M, C = fn() -> M> {
    family: Family<L, M, C>,
    seen: Mutex<HashSet<L>>,
}

// === impl ByModel ===

impl<L: Clone + Eq + Hash> ByModel<L, Counter> {
    /// Counters that start at 0.
    #[must_use]
    pub fn counters() -> Self {
        let counter: fn() -> Counter = Counter::default;
        Self {
            family: Family::new_with_constructor(counter),
            seen: Mutex::default(),
        }
    }
}

impl<L, M, C> ByModel<L, M, C>
where
    L: OfModel + Clone + Eq + Hash,
    M: Clone,
    C: MetricConstructor<M> + Clone,
{
    /// Wraps a family without metrics.
    pub fn new(family: Family<L, M, C>) -> Self {
        Self {
            family,
            seen: Mutex::default(),
        }
    }

    /// The family, for registration.
    pub fn family(&self) -> Family<L, M, C> {
        self.family.clone()
    }

    /// Applies `change` to the metric with these labels, creating it if missing.
    pub fn with(&self, labels: &L, change: impl FnOnce(&M)) {
        // The usual case: the metric exists, and only the family's own lock is taken.
        if let Some(found) = self.family.get(labels) {
            return change(&found);
        }
        // Created under the lock: `keep` must not see a metric whose labels are not in `seen` yet.
        let mut seen = self.seen.lock();
        seen.insert(labels.clone());
        change(&self.family.get_or_create(labels));
    }

    /// Removes the metrics of models that no longer exist. A request that ends after its model creates them again,
    /// until the next call.
    pub fn keep(&self, exists: impl Fn(&Arc<str>) -> bool) {
        let mut seen = self.seen.lock();
        seen.retain(|labels| {
            let exists = exists(labels.model());
            if !exists {
                self.family.remove(labels);
            }
            exists
        });
    }
}
