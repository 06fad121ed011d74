//! Whether the engine answers requests: failures in a row, and how long no token came.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Requests in a row that the engine failed before routers should send new ones elsewhere. One failure can
/// be the request's own fault, and two can be one request and its retry.
const MOST_FAILURES: u32 = 3;

/// The condition of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It takes requests and answers them.
    Up,
    /// It takes requests and fails them.
    Failing,
    /// It takes requests, and no token comes.
    Stalled,
    /// Its port refuses connections, or its health check fails.
    Gone,
}

/// The health of the engine, as its requests show it.
#[derive(Debug)]
pub(crate) struct Health {
    condition: watch::Sender<Condition>,
    began: Instant,
    stall: Duration,
    /// Milliseconds since `began` when a token came, or the engine got its first request after a pause.
    progress: AtomicU64,
    /// Requests that failed since one succeeded.
    failures: AtomicU32,
    /// Requests that succeeded since the engine was last found to be failing.
    successes: AtomicU32,
}

// === impl Condition ===

impl Condition {
    /// It takes requests, and is not to be trusted with them.
    pub(crate) fn is_unhealthy(self) -> bool {
        matches!(self, Self::Failing | Self::Stalled)
    }
}

// === impl Health ===

impl Health {
    /// Of an engine that is up. `stall`: how long requests may run without a token before it is failing.
    pub(crate) fn new(condition: watch::Sender<Condition>, stall: Duration) -> Self {
        condition.send_replace(Condition::Up);
        Self {
            condition,
            began: Instant::now(),
            stall,
            progress: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            successes: AtomicU32::new(0),
        }
    }

    pub(crate) fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Changes the condition if it is one of `from`, and returns whether it was. `then` runs before the change is
    /// visible, so that what the worker tells routers changes in the same order.
    pub(crate) fn turn(&self, from: &[Condition], to: Condition, then: impl FnOnce()) -> bool {
        self.condition.send_if_modified(|condition| {
            let turns = from.contains(condition);
            if turns {
                *condition = to;
                self.failures.store(0, Ordering::Relaxed);
                self.progressed();
                then();
            }
            turns
        })
    }

    /// A token came, or the engine got its first request after a pause.
    pub(crate) fn progressed(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now, Ordering::Relaxed);
    }

    /// A request was answered completely.
    pub(crate) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.successes.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine failed a request. The number of failures in a row, once they are too many.
    pub(crate) fn failed(&self) -> Option<u32> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        (failures >= MOST_FAILURES).then_some(failures)
    }

    /// Whether any request succeeded since this was last asked.
    pub(crate) fn has_proved_itself(&self) -> bool {
        self.successes.swap(0, Ordering::Relaxed) > 0
    }

    /// How long no token came, once that is too long.
    pub(crate) fn stalled(&self) -> Option<Duration> {
        let progress = Duration::from_millis(self.progress.load(Ordering::Relaxed));
        let silent = self.began.elapsed().saturating_sub(progress);
        (silent >= self.stall).then_some(silent)
    }
}
