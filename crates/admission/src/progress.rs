//! Tells the store how far requests are, beside them, and renews the leases of those that wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::reservation::{Home, Running};
use super::store::Progressed;

/// So many messages are under way at once at most.
const AT_ONCE: usize = 256;

/// The requests that run, and those of them of which there is something to say.
pub(super) struct Registry {
    running: Mutex<HashMap<[u8; 16], Arc<Running>>>,
    queue: mpsc::UnboundedSender<Arc<Running>>,
    /// Every request is in it once at most.
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
            // The receiver is a field beside this.
            let _ = self.queue.send(Arc::clone(running));
        }
    }

    /// Says once more of every request how far it is.
    pub(super) fn queue_all(&self, shared: &Shared) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for running in all {
            self.queue(shared, &running);
        }
    }

    /// Those that were let in without the store, and that it knows nothing of.
    pub(super) fn outside_the_store(&self) -> Vec<Arc<Running>> {
        let running = self.lock();
        let outside = running.values().filter(|one| !one.is_in_store());
        outside.cloned().collect()
    }

    /// The same of those that are silent: they wait for a worker, or for a slow one.
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 16], Arc<Running>>> {
        let running = self.running.lock();
        running.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Sends what is queued, until `shutdown`: what is under way then, `settle` says better.
pub(super) async fn run(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let mut inbox = shared.registry.inbox.lock().await;
    let mut sending = JoinSet::new();
    let mut look = interval(shared.look_every());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(running) = inbox.recv(), if sending.len() < AT_ONCE => {
                // Most answers of a token or two: their end says it all.
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
