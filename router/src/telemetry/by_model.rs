//! Metrics that are labelled with a model, and go when it is gone: a cluster may have many that come and go.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};

/// Labels of which one is a model.
pub(super) trait OfModel {
    fn model(&self) -> &Arc<str>;
}

/// Counters or histograms by labels, with the labels that it has: the family itself does not tell them.
#[derive(Debug)]
pub(super) struct ByModel<L, M, C = fn() -> M> {
    family: Family<L, M, C>,
    seen: Mutex<HashSet<L>>,
}

// === impl ByModel ===

impl<L: Clone + Eq + Hash> ByModel<L, Counter> {
    pub(super) fn counters() -> Self {
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
    pub(super) fn new(family: Family<L, M, C>) -> Self {
        Self {
            family,
            seen: Mutex::default(),
        }
    }

    /// For the registry.
    pub(super) fn family(&self) -> Family<L, M, C> {
        self.family.clone()
    }

    /// Changes one of them.
    pub(super) fn with(&self, labels: &L, change: impl FnOnce(&M)) {
        // Nearly every request finds what it counts, and takes no lock but the family's own.
        if let Some(found) = self.family.get(labels) {
            return change(&found);
        }
        // Made under the lock: `keep` must not see a metric whose labels are not noted yet.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(labels.clone());
        change(&self.family.get_or_create(labels));
    }

    /// Drops those of all other models. A request that ends after its model brings them back until the next time.
    pub(super) fn keep(&self, exists: impl Fn(&Arc<str>) -> bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|labels| {
            let exists = exists(labels.model());
            if !exists {
                self.family.remove(labels);
            }
            exists
        });
    }
}

#[cfg(test)]
mod tests {
    use inferyard_proto::worker::v1::Usage;

    use super::super::Telemetry;
    use super::*;
    use crate::place::Fleet;
    use inferyard_catalog::{Catalog, Model};

    fn catalog(names: &[&str]) -> Catalog {
        let models = names.iter().map(|name| {
            let model = Model::new(name, 0);
            (Arc::clone(&model.id), Arc::new(model))
        });
        Catalog {
            models: models.collect(),
            ..Catalog::default()
        }
    }

    #[test]
    fn what_was_counted_of_a_model_goes_with_it() {
        let telemetry = Telemetry::new();
        let fleet = Fleet::new(None).unwrap();
        fleet.update(&catalog(&["goes", "stays"]));
        for name in ["goes", "stays"] {
            let model = name.into();
            telemetry.generated(&model, &Usage::default(), Some(0.1));
            telemetry.placed(&model, true);
            telemetry.retried(&model, "died");
        }
        let counted = |name: &str| {
            let text = telemetry.render(&fleet).unwrap();
            let label = format!("model=\"{name}\"");
            text.lines().filter(|line| line.contains(&label)).count()
        };
        let all = counted("goes");
        assert!(all >= 6 && counted("stays") == all, "{all}");
        fleet.update(&catalog(&["stays"]));
        assert_eq!((counted("goes"), counted("stays")), (0, all));
        // It comes back, and begins anew.
        fleet.update(&catalog(&["goes", "stays"]));
        telemetry.placed(&"goes".into(), true);
        assert_eq!(counted("goes"), 1);
    }
}
