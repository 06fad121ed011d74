//! What ends a request before the engine does: its reader, its deadline, the worker's end.

use std::sync::Arc;
use std::time::Duration;

use inferyard_engine::event::{Failure, FailureKind};
use inferyard_engine::queue;
use inferyard_engine::reply::Reply;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What ends a request before the engine does.
pub(super) struct Patience {
    pub(super) hears: Arc<Notify>,
    pub(super) deadline: Option<Instant>,
    pub(super) slow_reader: Duration,
    pub(super) stop: CancellationToken,
}

/// Why a request waits no longer.
pub(super) enum Wake {
    /// Its reader may have made room.
    CaughtUp,
    /// It ends here.
    End(End),
}

/// How a request ends that is not complete.
pub(super) enum End {
    /// Nobody reads it.
    Left,
    /// It failed.
    Failed(Failure),
}

// === impl Patience ===

impl Patience {
    /// Waits for a future, as long as anybody waits for the answer.
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
                    Wake::CaughtUp => {}
                    Wake::End(end) => return Err(end),
                },
                done = &mut future => return Ok(done),
            }
        }
    }

    pub(super) async fn wait(&self, reply: &Reply) -> Wake {
        let parked = reply.parked_since().map(|since| since + self.slow_reader);
        tokio::select! {
            biased;
            () = self.hears.notified() => {
                if reply.is_abandoned() {
                    Wake::End(End::Left)
                } else if reply.is_cancelled() {
                    Wake::End(End::Failed(cancelled()))
                } else {
                    Wake::CaughtUp
                }
            }
            () = self.stop.cancelled() => {
                Wake::End(End::Failed(queue::Refused::Draining.failure()))
            }
            () = at(self.deadline) => Wake::End(End::Failed(deadline_passed())),
            () = at(parked) => {
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
