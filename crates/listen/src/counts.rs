//! Counters of a listener's connections, for the metrics of the server that owns it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Counters of one listener. A clone counts into the same numbers.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Open connections.
    pub open: Gauge,
    /// 1 while no further connection is accepted before another one ends.
    pub full: Gauge,
    /// Connections that were closed at once, because their client had its share already.
    pub over_share: Counter,
    /// Connections that were closed, because the head of their first request did not come in time.
    pub no_request: Counter,
    /// Connections that were closed, because the client took none of the bytes that waited for it.
    pub stalled: Counter,
}
