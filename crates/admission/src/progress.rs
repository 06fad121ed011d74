//! Background task that reports the progress of requests to the store and renews the leases of silent ones.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::reservation::{Home, Running};
use super::store::Progressed;

/// Reports in flight at most.
const AT_ONCE: usize = 256;

/// The running requests, and those with a report due.
pub(super) struct Registry {
    running: Mutex<HashMap<[u8; 16], Arc<Running>>>,
    queue: mpsc::UnboundedSender<Arc<Running>>,
    /// Contains each request at most once.
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<Arc<Running>>>,
}

// === impl Registry ===

impl Registry {
    pub(super) fn new() -> Self {
        let (queue, inbox) = mpsc::unbounded_channel();
        Self {
            running: Mutex::default(),
            queue,
            inbox: tokio::sync::Mutex::new(inbox),
        }
    }

    pub(super) fn enter(&self, running: &Arc<Running>) {
        self.lock().insert(running.lease.id, Arc::clone(running));
    }

    pub(super) fn leave(&self, running: &Running) {
        self.lock().remove(&running.lease.id);
    }

    pub(super) fn queue(&self, shared: &Shared, running: &Arc<Running>) {
        if running.enqueue(shared.next_due_ms()) {
            // Cannot fail: the receiver is a field of this struct.
            let _ = self.queue.send(Arc::clone(running));
        }
    }

    /// Queues a report of every running request.
    pub(super) fn queue_all(&self, shared: &Shared) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for running in all {
            self.queue(shared, &running);
        }
    }

    /// Running requests that were admitted without the store and have no lease there.
    pub(super) fn outside_the_store(&self) -> Vec<Arc<Running>> {
        let running = self.lock();
        let outside = running.values().filter(|one| !one.is_in_store());
        outside.cloned().collect()
    }

    /// Queues a report of every request without a recent one: it waits in a queue, or for a slow worker.
    fn queue_silent(&self, shared: &Shared) {
        let now_ms = shared.clock.elapsed_ms();
        let patience_ms = shared.interval_ms / 2;
        let silent: Vec<_> = {
            let running = self.lock();
            let silent = running
                .values()
                .filter(|one| one.is_silent(now_ms, patience_ms));
            silent.cloned().collect()
        };
        for running in silent {
            self.queue(shared, &running);
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<[u8; 16], Arc<Running>>> {
        self.running.lock()
    }
}

/// Sends queued reports until `shutdown`; reports still in flight are dropped, because `settle` includes them.
pub(super) async fn run(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let mut inbox = shared.registry.inbox.lock().await;
    let mut sending = JoinSet::new();
    let mut look = interval(shared.look_every());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(running) = inbox.recv(), if sending.len() < AT_ONCE => {
                // Usual for short answers: the end of the request includes the report.
                if running.has_ended() {
                    continue;
                }
                let shared = Arc::clone(shared);
                sending.spawn(async move { send(&shared, &running).await });
            }
            Some(_) = sending.join_next() => {}
            _ = look.tick() => shared.registry.queue_silent(shared),
        }
    }
}

async fn send(shared: &Shared, running: &Running) {
    let used = running.dequeue();
    if running.has_ended() {
        return;
    }
    if let Home::Local(held) = &running.home {
        held.progress(&used).await;
    }
    if running.is_in_store() {
        let progressed = shared.calls.progress(&running.lease, &used).await;
        if matches!(progressed, Ok(Progressed::Revived)) {
            tracing::debug!("a lease had expired and is held again");
        }
    }
}
