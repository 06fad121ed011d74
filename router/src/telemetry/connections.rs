//! Metrics of client connections.

use inferyard_listen::Counts;
use prometheus_client::registry::Registry;

pub(super) fn register(registry: &mut Registry, counts: &Counts) {
    registry.register(
        "connections",
        "Open connections of clients",
        counts.open.clone(),
    );
    registry.register(
        "connections_full",
        "1 while the connection limit is reached and no connection is accepted",
        counts.full.clone(),
    );
    registry.register(
        "connections_over_share",
        "Connections closed at once because their client had reached its share",
        counts.over_share.clone(),
    );
    registry.register(
        "connections_without_request",
        "Connections closed because the head of their first request did not arrive in time",
        counts.no_request.clone(),
    );
    registry.register(
        "connections_stalled",
        "Connections closed because the client read none of the pending bytes for too long",
        counts.stalled.clone(),
    );
}
