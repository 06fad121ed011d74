//! HTTP connections of the usage API: bounded, and drained at the end.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use inferyard_listen::{Bounds, Listener};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long running answers may take after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Most open connections. Nearly all are from routers, and one router may use all of them.
const CONNECTIONS: usize = 1024;
/// How long an answer to a client that does not read may take.
const ANSWER_TIME: Duration = Duration::from_mins(10);

/// Serves connections until `end`, and completes the answers that are running then.
pub(crate) async fn serve(listener: Listener, app: Router, end: CancellationToken) {
    let bounds = Bounds {
        connections: CONNECTIONS,
        per_client: CONNECTIONS,
        answer: ANSWER_TIME,
        ..Bounds::of_probes()
    };
    let serve = move |request: hyper::Request<hyper::body::Incoming>| {
        let app = app.clone();
        async move {
            let answer = app.oneshot(request.map(Body::new)).await;
            answer.unwrap_or_else(|never| match never {})
        }
    };
    inferyard_listen::serve(listener.into_socket(), bounds, end, DRAIN_TIMEOUT, serve).await;
}
