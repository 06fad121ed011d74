//! A reserved position in the queue, for a request that is still being prepared.

use std::sync::Arc;

use super::{Inner, Job, Queue, QueueKey, Refused, RunState};

/// A position that counts as taken while its request is being prepared. Dropping it gives it back.
pub struct Reservation<J: Job> {
    queue: Arc<Queue<J>>,
    tokens: u64,
    // False once the position was used or given back.
    is_held: bool,
}

// === impl Queue ===

impl<J: Job> Queue<J> {
    /// Reserves a position for a request of about `tokens` prompt tokens, before any work is done for it.
    ///
    /// # Errors
    ///
    /// The queue is full, or the worker drains.
    pub fn reserve(self: &Arc<Self>, tokens: u64) -> Result<Reservation<J>, Refused> {
        let mut inner = self.lock();
        inner.check(self.max_queued)?;
        inner.reserved += 1;
        inner.reserved_tokens += tokens;
        self.publish(&inner);
        Ok(Reservation {
            queue: Arc::clone(self),
            tokens,
            is_held: true,
        })
    }
}

// === impl Reservation ===

impl<J: Job> Reservation<J> {
    /// Puts a job into the reserved position. `job` is called with its key, by which the client can leave the queue.
    ///
    /// # Errors
    ///
    /// The worker drains.
    pub fn join(mut self, priority: i32, job: impl FnOnce(QueueKey) -> J) -> Result<(), Refused> {
        let queue = Arc::clone(&self.queue);
        let mut inner = queue.lock();
        self.give_back(&mut inner);
        if inner.run_state != RunState::Serve {
            queue.publish(&inner);
            return Err(Refused::Draining);
        }
        inner.enter(priority, job);
        queue.changed(&mut inner);
        Ok(())
    }

    fn give_back(&mut self, inner: &mut Inner<J>) {
        if std::mem::take(&mut self.is_held) {
            inner.reserved -= 1;
            inner.reserved_tokens -= self.tokens;
        }
    }
}

impl<J: Job> Drop for Reservation<J> {
    fn drop(&mut self) {
        if self.is_held {
            let queue = Arc::clone(&self.queue);
            let mut inner = queue.lock();
            self.give_back(&mut inner);
            queue.publish(&inner);
        }
    }
}
