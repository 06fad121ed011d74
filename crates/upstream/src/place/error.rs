//! Why a request could not be placed.

use std::time::Duration;

/// No worker can take the request, or could within its time limit.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Every available worker is still loading the model.
    #[error("the model is loading")]
    Loading {
        /// Progress of the furthest worker, 0 to 1.
        progress: f32,
    },
    /// The model has no reachable worker that serves it.
    #[error("no worker answers")]
    NoWorker,
    /// All workers are full, and so is the plan's share of the queue.
    #[error("{most} requests of the plan wait already")]
    QueueFull {
        /// The plan's limit of waiting requests.
        most: usize,
        /// When to retry, estimated from the pace of the queue.
        retry_after: Duration,
    },
    /// All workers were full for as long as the plan allows a request to wait.
    #[error("no worker had room within {waited:?}")]
    WaitOver {
        /// The plan's limit.
        waited: Duration,
        /// When to retry, estimated from the pace of the queue.
        retry_after: Duration,
    },
    /// This router is shutting down.
    #[error("the router is shutting down")]
    ShuttingDown,
}
