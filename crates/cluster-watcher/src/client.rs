//! The client of one watch: no answer takes too long to begin, and each one is counted.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use inferyard_kube_client::{Limit, is_watch};
use kube::Client;
use kube::client::Body;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tower::{Layer as _, ServiceExt as _};

use crate::metrics::Metrics;
use crate::object::Kind;

/// How long an answer may take: that to a list until its end, that to a watch until its head.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// The least time between the starts of two watches.
const BETWEEN_WATCHES: Duration = Duration::from_millis(500);

/// A client for one watch of `kind`, over the connections of `client`. Must be called within a tokio runtime.
///
/// Dropping a response, or its future, closes its connection, because HTTP/1 has no other way to end a request. A dead
/// connection is therefore not used again.
pub(crate) fn bounded(client: &Client, kind: Kind, metrics: &Metrics) -> Client {
    // Spaces the starts of watches: `kube::runtime` starts the next one at once when the API server ends one without an
    // error, so a server that ends each one at once would be asked in a loop.
    let mut watches = interval(BETWEEN_WATCHES);
    watches.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watches = Arc::new(Mutex::new(watches));
    let namespace = client.default_namespace().to_owned();
    let (client, metrics) = (client.clone(), metrics.clone());
    let unlimited = tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    let limited = Limit(ANSWER).layer(unlimited);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (limited, watches, metrics) = (limited.clone(), Arc::clone(&watches), metrics.clone());
        async move {
            if is_watch(request.uri().query().unwrap_or_default()) {
                watches.lock().await.tick().await;
            }
            let answer = limited.oneshot(request).await?;
            if answer.status().is_success() {
                metrics.synced(kind);
            }
            Ok::<_, tower::BoxError>(answer)
        }
    });
    Client::new(service, namespace)
}
