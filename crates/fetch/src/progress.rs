//! Progress of a fetch, for watchers and for the log.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::{Instant, interval};

/// How often the snapshot is updated.
const TICK: Duration = Duration::from_millis(500);
/// Window over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// Least time between two log lines.
const LINES: Duration = Duration::from_secs(10);

/// Counters of a fetch, in bytes.
pub(crate) struct Progress {
    /// Bytes that are in the folder.
    done: AtomicU64,
    /// Size of all files, as far as it is known.
    total: AtomicU64,
    /// Bytes received over the network since the start.
    received: AtomicU64,
    /// Why something waits, keyed by its name.
    notes: Mutex<BTreeMap<String, String>>,
    failure_logged: Mutex<Option<Instant>>,
    told: watch::Sender<Snapshot>,
}

/// What watchers see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) per_second: u64,
    pub(crate) note: String,
}

/// Removes a note when it is dropped.
pub(crate) struct Note {
    progress: Arc<Progress>,
    what: String,
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            received: AtomicU64::new(0),
            notes: Mutex::default(),
            failure_logged: Mutex::default(),
            told: watch::Sender::new(Snapshot::default()),
        }
    }

    /// A receiver of snapshots.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.told.subscribe()
    }

    /// Changes the expected size of a file from `before` to `now` bytes.
    pub(crate) fn expect(&self, before: u64, now: u64) {
        self.total.fetch_add(now, Relaxed);
        self.total.fetch_sub(before, Relaxed);
    }

    /// Adds bytes that were in the folder before this fetch.
    pub(crate) fn found(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    /// Adds bytes that were received.
    pub(crate) fn came(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
        self.done.fetch_add(bytes, Relaxed);
    }

    /// Subtracts bytes that were dropped.
    pub(crate) fn lost(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Relaxed);
    }

    /// Bytes in the folder, and the size of all files.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.total.load(Relaxed))
    }

    /// Bytes received over the network.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Shows `words` to watchers until the returned note is dropped.
    pub(crate) fn note(self: &Arc<Self>, what: &str, words: String) -> Note {
        self.notes().insert(what.to_owned(), words);
        self.tell(None);
        Note {
            progress: Arc::clone(self),
            what: what.to_owned(),
        }
    }

    /// Rate limit of failures in the log: true at most once in ten seconds.
    pub(crate) fn may_log_a_failure(&self) -> bool {
        let mut last = self.failure_logged.lock();
        let due = last.is_none_or(|last| last.elapsed() >= LINES);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Updates the snapshot until it is cancelled.
    pub(crate) async fn run(&self) -> Infallible {
        let mut ticks = interval(TICK);
        let mut window = VecDeque::new();
        let (mut logged, mut logged_bytes) = (Instant::now(), 0);
        loop {
            let now = ticks.tick().await;
            let received = self.received();
            window.push_back((now, received));
            while window.len() > 2 && now - window[0].0 > WINDOW {
                window.pop_front();
            }
            let (since, before) = window[0];
            self.tell(Some(per_second(received - before, now - since)));
            if now - logged >= LINES && received != logged_bytes {
                (logged, logged_bytes) = (now, received);
                let Snapshot {
                    done,
                    total,
                    per_second,
                    ..
                } = self.told.borrow().clone();
                tracing::info!(bytes = done, of = total, per_second, "fetching");
            }
        }
    }

    fn tell(&self, per_second: Option<u64>) {
        let (done, total) = self.bytes();
        let note = self.notes().values().next().cloned().unwrap_or_default();
        self.told.send_modify(|told| {
            let per_second = per_second.unwrap_or(told.per_second);
            *told = Snapshot {
                done,
                total,
                per_second,
                note,
            };
        });
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.notes.lock()
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1000).checked_div(millis).unwrap_or(0)
}

// === impl Note ===

impl Drop for Note {
    fn drop(&mut self) {
        self.progress.notes().remove(&self.what);
        self.progress.tell(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_here_before_counts_as_done_and_not_as_received() {
        let progress = Progress::new();
        progress.expect(0, 1000);
        progress.found(500);
        progress.came(300);
        progress.lost(100);
        progress.expect(1000, 2000);
        assert_eq!((progress.bytes(), progress.received()), ((700, 2000), 300));
        assert_eq!(per_second(300, Duration::from_millis(1500)), 200);
        assert_eq!(per_second(300, Duration::ZERO), 0);
    }

    #[test]
    fn a_note_stands_as_long_as_its_reason() {
        let progress = Arc::new(Progress::new());
        let told = progress.subscribe();
        let one = progress.note("a", "waits".to_owned());
        let two = progress.note("b", "waits too".to_owned());
        assert_eq!(told.borrow().note, "waits");
        drop(one);
        assert_eq!(told.borrow().note, "waits too");
        drop(two);
        assert_eq!(told.borrow().note, "");
    }
}
