//! Metrics of the cluster watcher.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::object::Kind;

/// The metrics of a cluster watcher; clones share their values.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    synced: Family<KindLabel, Gauge>,
    lists: Family<KindLabel, Counter>,
    errors: Family<KindLabel, Counter>,
    pub(crate) from_cache: Gauge,
    pub(crate) mistakes: Gauge,
    pub(crate) unread: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Registers all metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help =
            "Time of the last answer or event of the API server, in seconds since the Unix epoch";
        let synced = self.synced.clone();
        registry.register_with_unit("discovery_last_sync_timestamp", help, Unit::Seconds, synced);
        let help = "Complete lists read: at the start, after errors and every 8 to 10 minutes";
        registry.register("discovery_lists", help, self.lists.clone());
        let help = "Lists and watches that failed";
        registry.register("discovery_errors", help, self.errors.clone());
        let help = "1 while the catalog comes from the cache file, because the API server has not answered yet";
        let cached = self.from_cache.clone();
        registry.register("discovery_catalog_from_cache", help, cached);
        let help = "Mistakes and conflicts in resources of the cluster; the log names each";
        registry.register("discovery_mistakes", help, self.mistakes.clone());
        let help = "Namespaces that the API server refuses to list; /readyz on the metrics port names them";
        registry.register("discovery_unread_namespaces", help, self.unread.clone());
    }

    /// Records that the API server has answered or sent an event.
    pub(crate) fn synced(&self, kind: Kind) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        self.synced.get_or_create(&label(kind)).set(now);
    }

    pub(crate) fn listed(&self, kind: Kind) {
        self.lists.get_or_create(&label(kind)).inc();
        self.synced(kind);
    }

    pub(crate) fn failed(&self, kind: Kind) {
        self.errors.get_or_create(&label(kind)).inc();
    }
}

fn label(kind: Kind) -> KindLabel {
    KindLabel {
        kind: kind.plural(),
    }
}
