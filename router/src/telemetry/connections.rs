//! The metrics of clients' connections.

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
        "1 while no further connection is accepted until one ends",
        counts.full.clone(),
    );
    registry.register(
        "connections_over_share",
        "Connections that were closed at once, because their client had as many as it may",
        counts.over_share.clone(),
    );
    registry.register(
        "connections_without_request",
        "Connections that were closed, because the head of their first request did not come in time",
        counts.no_request.clone(),
    );
    registry.register(
        "connections_stalled",
        "Connections that were closed, because the client took none of the bytes that waited for it",
        counts.stalled.clone(),
    );
}
