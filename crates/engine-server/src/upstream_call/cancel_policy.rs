//! What ends a call before the server does: the client, the deadline, or the end of the worker.

use std::sync::Arc;
use std::time::Duration;

use inferyard_engine::event::{Failure, FailureKind};
use inferyard_engine::queue;
use inferyard_engine::reply::Reply;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What ends a call before the server does.
pub(super) struct CancelPolicy {
    pub(super) reader_changed: Arc<Notify>,
    pub(super) deadline: Option<Instant>,
    pub(super) slow_reader: Duration,
    pub(super) stop: CancellationToken,
}

/// Why a waiting call was woken.
pub(super) enum Wake {
    /// The client may have read events.
    Drained,
    /// The call ends.
    End(End),
}

/// How a request ends that is not complete.
pub(super) enum End {
    /// The client is gone.
    Left,
    /// The request fails.
    Failed(Failure),
}

// === impl CancelPolicy ===

impl CancelPolicy {
    /// Runs a future to its end, or drops it as soon as the call ends.
    pub(super) async fn with<T>(
        &self,
        reply: &Reply,
        future: impl Future<Output = T>,
    ) -> Result<T, End> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                wake = self.wait(reply) => match wake {
                    Wake::Drained => {}
                    Wake::End(end) => return Err(end),
                },
                done = &mut future => return Ok(done),
            }
        }
    }

    pub(super) async fn wait(&self, reply: &Reply) -> Wake {
        let paused = reply.paused_since().map(|since| since + self.slow_reader);
        tokio::select! {
            biased;
            () = self.reader_changed.notified() => {
                if reply.is_abandoned() {
                    Wake::End(End::Left)
                } else if reply.is_cancelled() {
                    Wake::End(End::Failed(cancelled()))
                } else {
                    Wake::Drained
                }
            }
            () = self.stop.cancelled() => {
                Wake::End(End::Failed(queue::Refused::Draining.failure()))
            }
            () = at(self.deadline) => Wake::End(End::Failed(deadline_passed())),
            () = at(paused) => {
                let message = "the reader left its events unread for too long";
                Wake::End(End::Failed(Failure::new(FailureKind::SlowReader, message)))
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

pub(super) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the request was cancelled")
}

pub(super) fn deadline_passed() -> Failure {
    Failure::new(
        FailureKind::DeadlineExceeded,
        "nobody waits for the answer any longer",
    )
}
