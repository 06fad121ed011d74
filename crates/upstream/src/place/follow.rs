//! The task that follows a worker's state across broken connections and restarts.

use std::sync::Weak;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use inferyard_placement::Gap;
use inferyard_proto::worker::v1::WatchRequest;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::endpoint_pool::EndpointPool;
use super::worker::Worker;

/// A worker sends a state at least once a second; after this silence its stream counts as broken.
const SILENCE: Duration = Duration::from_secs(3);
/// Pauses between attempts to open the stream of states; doubled after each attempt. Jitter adds up to as much again,
/// so that the routers of a fleet do not reconnect at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a worker's stream of states ended.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("{0}")]
    Broken(#[source] Status),
    #[error("the worker ended its stream of states")]
    Ended,
    #[error("the worker was silent for {SILENCE:?}")]
    Silent,
    #[error("a message of the worker is missing: {0}")]
    Gap(#[from] Gap),
}

/// Follows the state of a worker across broken connections and restarts, until the worker is removed from the
/// catalog.
pub(crate) async fn follow(endpoints: Weak<EndpointPool>, worker: Weak<Worker>) {
    let mut pauses = pauses(FIRST_PAUSE);
    loop {
        let Some(client) = worker.upgrade().map(|worker| worker.client()) else {
            return;
        };
        let mut spoke = false;
        let error = listen(client, &endpoints, &worker, &mut spoke).await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        if let Some(endpoints) = endpoints.upgrade() {
            endpoints.lost(worker.id());
        }
        if spoke {
            tracing::warn!(worker = %worker.endpoint(), %error, "lost a worker");
            // A broken stream is usually back soon. A worker that hangs would accept a stream and count as ready
            // again.
            pauses = self::pauses(match error {
                FollowError::Broken(_) | FollowError::Ended | FollowError::Gap(_) => FIRST_PAUSE,
                FollowError::Silent => LONGEST_PAUSE,
            });
        } else {
            tracing::debug!(worker = %worker.endpoint(), %error, "no worker yet");
        }
        drop(worker);
        sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

fn pauses(first: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Takes states until the stream ends, and returns the reason.
async fn listen(
    mut client: WorkerClient<Channel>,
    endpoints: &Weak<EndpointPool>,
    worker: &Weak<Worker>,
    spoke: &mut bool,
) -> FollowError {
    let mut stream = match timeout(SILENCE, client.watch(WatchRequest {})).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return FollowError::Broken(status),
        Err(_) => return FollowError::Silent,
    };
    loop {
        let state = match timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(state))) => state,
            Ok(Ok(None)) => return FollowError::Ended,
            Ok(Err(status)) => return FollowError::Broken(status),
            Err(_) => return FollowError::Silent,
        };
        let (Some(endpoints), Some(worker)) = (endpoints.upgrade(), worker.upgrade()) else {
            return FollowError::Ended;
        };
        if !*spoke {
            tracing::info!(worker = %worker.endpoint(), phase = ?state.phase(), "found a worker");
            *spoke = true;
        }
        worker.said(&state);
        if let Err(gap) = endpoints.state(worker.id(), state.into()) {
            return gap.into();
        }
    }
}
