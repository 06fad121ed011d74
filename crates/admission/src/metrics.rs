//! Prometheus metrics of limits. No label contains an account or a key.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::kind::LimitKind;
use crate::store::LimitStatus;

/// Bucket bounds in seconds.
const CALL_SECONDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// Metrics of a limiter, registered with those of its router.
#[derive(Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<CallLabel, Histogram, fn() -> Histogram>,
    denials: Family<MeterLabel, Counter>,
    local: Family<OutcomeLabel, Counter>,
    pub(crate) store_lost: Gauge,
    pub(crate) backlog_bytes: Gauge,
    pub(crate) events_waiting: Gauge,
    pub(crate) kept: Counter,
    pub(crate) replayed: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) refused: Counter,
    pub(crate) swept: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MeterLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Creates and registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(CALL_SECONDS);
        let metrics = Self {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(seconds),
            denials: Family::default(),
            local: Family::default(),
            store_lost: Gauge::default(),
            backlog_bytes: Gauge::default(),
            events_waiting: Gauge::default(),
            kept: Counter::default(),
            replayed: Counter::default(),
            unreadable: Counter::default(),
            refused: Counter::default(),
            swept: Counter::default(),
        };
        let help = "Calls to the store of limits, by outcome";
        registry.register("limit_calls", help, metrics.calls.clone());
        let help = "Latency of calls to the store of limits";
        let seconds = metrics.call_seconds.clone();
        registry.register_with_unit("limit_call", help, Unit::Seconds, seconds);
        let help = "Requests that a limit denied";
        registry.register("limit_denials", help, metrics.denials.clone());
        let help = "Requests that this router decided by itself without the store";
        registry.register("limit_local_decisions", help, metrics.local.clone());
        let help = "1 while the store of limits does not answer and requests do not call it";
        registry.register("limit_store_lost", help, metrics.store_lost.clone());
        let help = "Usage that waits for the store";
        let bytes = metrics.backlog_bytes.clone();
        registry.register_with_unit("limit_backlog", help, Unit::Bytes, bytes);
        let help = "Usage events that the ledger of this process has not taken yet";
        registry.register("limit_events_waiting", help, metrics.events_waiting.clone());
        let help = "Ends of requests that were kept because the store could not be reached";
        registry.register("limit_ends_kept", help, metrics.kept.clone());
        let help = "Kept ends of requests that were replayed to the store";
        registry.register("limit_ends_replayed", help, metrics.replayed.clone());
        let help = "Entries of the spool that could not be read";
        registry.register("limit_ends_unreadable", help, metrics.unreadable.clone());
        let help = "Ends of requests that the store of limits refused and that were set aside";
        registry.register("limit_ends_refused", help, metrics.refused.clone());
        let help = "Expired leases that this router ended";
        registry.register("limit_leases_swept", help, metrics.swept.clone());
        metrics
    }

    pub(crate) fn called(&self, call: &'static str, outcome: &'static str, seconds: Option<f64>) {
        let labels = CallLabels { call, outcome };
        self.calls.get_or_create(&labels).inc();
        if let Some(seconds) = seconds {
            let label = CallLabel { call };
            self.call_seconds.get_or_create(&label).observe(seconds);
        }
    }

    #[cfg(test)]
    pub(crate) fn calls(&self, call: &'static str, outcome: &'static str) -> u64 {
        let labels = CallLabels { call, outcome };
        self.calls.get_or_create(&labels).get()
    }

    /// Counts the limits that deny a request.
    pub(crate) fn denied(&self, statuses: &[LimitStatus]) {
        for status in statuses.iter().filter(|status| status.denial.is_some()) {
            let kind = match status.kind {
                LimitKind::RequestsPerMinute => "requests_per_minute",
                LimitKind::RequestsPerDay => "requests_per_day",
                LimitKind::RequestsTotal => "requests_total",
                LimitKind::TokensPerMinute => "tokens_per_minute",
                LimitKind::TokensPerDay => "tokens_per_day",
                LimitKind::ConcurrentRequests => "concurrent_requests",
                LimitKind::BudgetPerMonth => "budget_per_month",
            };
            self.denials.get_or_create(&MeterLabel { kind }).inc();
        }
    }

    pub(crate) fn decided_locally(&self, outcome: &'static str) {
        self.local.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
