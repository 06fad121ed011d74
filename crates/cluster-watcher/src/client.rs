//! The client of one watch: no answer takes too long to begin, and each one is counted.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tower::BoxError;

use crate::metrics::Metrics;
use crate::object::Kind;

/// How long an answer may take: that to a list until its end, that to a watch until its head.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// The least time between the starts of two watches.
const BETWEEN_WATCHES: Duration = Duration::from_millis(500);

/// The API server took too long.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {0:?}")]
struct TimedOut(Duration);

/// What the requests of one watch go through.
struct Requests {
    client: Client,
    kind: Kind,
    metrics: Metrics,
    /// Spaces the starts of watches: `kube::runtime` starts the next one at once when the API server ends one without an
    /// error, so a server that ends each one at once would be asked in a loop.
    watches: Mutex<Interval>,
}

/// A client for one watch of `kind`, over the connections of `client`. Must be called within a tokio runtime.
pub(crate) fn bounded(client: &Client, kind: Kind, metrics: &Metrics) -> Client {
    let mut watches = interval(BETWEEN_WATCHES);
    watches.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let namespace = client.default_namespace().to_owned();
    let requests = Arc::new(Requests {
        client: client.clone(),
        kind,
        metrics: metrics.clone(),
        watches: Mutex::new(watches),
    });
    let service = tower::service_fn(move |request| {
        let requests = Arc::clone(&requests);
        async move { requests.send(request).await }
    });
    Client::new(service, namespace)
}

// === impl Requests ===

impl Requests {
    /// Dropping the answer, or this future, closes its connection: HTTP/1 has no other way to end a request. So a dead
    /// connection is not used again.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.contains("watch=true");
        if is_watch {
            self.watches.lock().await.tick().await;
        }
        let answer = async {
            let (head, body) = self.client.send(request).await?.into_parts();
            let body = if is_watch {
                body
            } else {
                Body::from(body.collect().await?.to_bytes())
            };
            Ok::<_, BoxError>(Response::from_parts(head, body))
        };
        let answer = timeout(ANSWER, answer).await;
        let answer = answer.map_err(|_| TimedOut(ANSWER))??;
        if answer.status().is_success() {
            self.metrics.synced(self.kind);
        }
        Ok(answer)
    }
}
