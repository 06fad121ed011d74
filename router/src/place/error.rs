//! Why no worker takes a request.

use std::time::Duration;

/// No worker can take the request now, or could within its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Every worker of the model is still reading it.
    #[error("the model is loading")]
    Loading {
        /// How far the furthest one is, 0 to 1.
        progress: f32,
    },
    /// The model has no worker that answers.
    #[error("no worker answers")]
    NoWorker,
    /// All workers are full, and so is the plan's part of the line.
    #[error("{most} requests of the plan wait already")]
    QueueFull {
        /// How many may wait.
        most: usize,
        /// When to try again, at the pace at which the line moves.
        retry_after: Duration,
    },
    /// All workers were full for as long as the plan lets a request wait.
    #[error("no worker had room within {waited:?}")]
    WaitOver {
        /// How long that was.
        waited: Duration,
        /// When to try again, at the pace at which the line moves.
        retry_after: Duration,
    },
    /// This router is shutting down.
    #[error("the router is shutting down")]
    ShuttingDown,
}
