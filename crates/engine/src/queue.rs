//! The queue in front of an engine: bounded, ordered by priority, then by arrival.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::event::{Failure, FailureKind};
use crate::state::State;

mod reservation;

pub use reservation::Reservation;

/// Jobs that many tasks put into the queue and one engine takes out of it.
pub struct Queue<J> {
    max_queued: usize,
    inner: Mutex<Inner<J>>,
    // Wakes an engine that is a thread.
    wake: Condvar,
    // Wakes an engine that is a task.
    bell: Notify,
    state: Arc<State>,
}

/// The position of a job: sorts by priority, then by arrival.
pub type QueueKey = (Reverse<i32>, u64);

/// What the queue must know of a job.
pub trait Job {
    /// Tokens of the prompt.
    fn prompt_tokens(&self) -> usize;
    /// When the job is dropped from the queue.
    fn deadline(&self) -> Option<Instant>;
    /// Whether the job is to be dropped from the queue now.
    fn is_cancelled(&self) -> bool;
}

/// Why a job is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// The worker is shutting down.
    Draining,
}

/// What the engine is to do; it only ever gets stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Take and compute requests.
    Serve,
    /// Finish the running requests and take no new ones.
    Drain,
    /// Fail the running requests and end.
    Stop,
}

struct Inner<J> {
    waiting: BTreeMap<QueueKey, J>,
    waiting_tokens: u64,
    // Positions reserved for requests that are being prepared, and about how many prompt tokens those have.
    reserved: usize,
    reserved_tokens: u64,
    arrivals: u64,
    free_slots: usize,
    run_state: RunState,
    woken: bool,
}

// === impl Refused ===

impl Refused {
    /// The failure of the refused request.
    #[must_use]
    pub fn failure(self) -> Failure {
        match self {
            Self::Full => Failure::new(FailureKind::Overloaded, "the queue of this worker is full"),
            Self::Draining => Failure::new(FailureKind::Draining, "this worker is shutting down"),
        }
    }
}

// === impl Queue ===

impl<J: Job> Queue<J> {
    /// An empty queue before an engine with this many free slots.
    pub fn new(max_queued: usize, free_slots: usize, state: Arc<State>) -> Self {
        let inner = Inner {
            waiting: BTreeMap::new(),
            waiting_tokens: 0,
            reserved: 0,
            reserved_tokens: 0,
            arrivals: 0,
            free_slots,
            run_state: RunState::Serve,
            woken: false,
        };
        Self {
            max_queued,
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            bell: Notify::new(),
            state,
        }
    }

    /// Adds a job to the queue. `job` is called with its key, by which the job can leave the queue again.
    ///
    /// Jobs for which the engine has a free slot do not count against the limit: they only pass through.
    pub fn join(&self, priority: i32, job: impl FnOnce(QueueKey) -> J) -> Result<(), Refused> {
        let mut inner = self.lock();
        inner.check(self.max_queued)?;
        inner.enter(priority, job);
        self.changed(&mut inner);
        Ok(())
    }

    /// Checks whether a job may be queued now, before any work is done for it.
    pub fn check(&self) -> Result<(), Refused> {
        self.lock().check(self.max_queued)
    }

    /// Removes the job from the queue and wakes the engine. If the engine has taken the job already, it notices the
    /// client that is gone on its next sweep.
    pub fn leave(&self, key: QueueKey) {
        let mut inner = self.lock();
        inner.remove(key);
        self.changed(&mut inner);
    }

    /// Wakes the engine.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.ring();
    }

    /// Changes what the engine is to do, and wakes it. Nothing follows [`RunState::Stop`].
    pub fn set_run_state(&self, run_state: RunState) {
        let mut inner = self.lock();
        if inner.run_state != RunState::Stop {
            inner.run_state = run_state;
        }
        self.changed(&mut inner);
    }

    /// What the engine is to do, without waiting.
    pub fn run_state(&self) -> RunState {
        self.lock().run_state
    }

    /// Blocks the thread until the engine is woken, or until the given time.
    pub fn wait(&self, until: Option<Instant>) -> RunState {
        let mut inner = self.lock();
        while !inner.woken {
            match until {
                None => self.wake.wait(&mut inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.wake.wait_for(&mut inner, left);
                }
            }
        }
        inner.woken = false;
        inner.run_state
    }

    /// As [`wait`](Self::wait), for an engine that is a task.
    ///
    /// # Cancellation
    ///
    /// May be dropped at any time: the wake-up is kept for the next call.
    pub async fn woken(&self, until: Option<Instant>) -> RunState {
        while !std::mem::take(&mut self.lock().woken) {
            match until {
                None => self.bell.notified().await,
                Some(until) => {
                    if timeout_at(until, self.bell.notified()).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.run_state()
    }

    /// Takes the first job, if it fits.
    pub fn take(&self, free_slots: usize, fits: impl FnOnce(&J) -> bool) -> Option<J> {
        let mut inner = self.lock();
        inner.free_slots = free_slots;
        let (key, job) = inner.waiting.first_key_value()?;
        if !fits(job) {
            return None;
        }
        let key = *key;
        let job = inner.remove(key);
        self.publish(&inner);
        job
    }

    /// Takes the jobs that are cancelled or whose deadline has passed; all jobs once the worker drains.
    pub fn take_overdue(&self, now: Instant) -> Vec<J> {
        let mut inner = self.lock();
        let draining = inner.run_state != RunState::Serve;
        let overdue: Vec<QueueKey> = inner
            .waiting
            .iter()
            .filter(|(_, job)| {
                draining
                    || job.is_cancelled()
                    || job.deadline().is_some_and(|deadline| deadline <= now)
            })
            .map(|(key, _)| *key)
            .collect();
        if overdue.is_empty() {
            return Vec::new();
        }
        let jobs = overdue
            .into_iter()
            .filter_map(|key| inner.remove(key))
            .collect();
        self.publish(&inner);
        jobs
    }

    /// The earliest deadline of the queued jobs.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().waiting.values().filter_map(Job::deadline).min()
    }

    fn changed(&self, inner: &mut Inner<J>) {
        inner.woken = true;
        self.publish(inner);
        self.ring();
    }

    /// Tells the routers how long the queue is. Requests that are being prepared count as queued.
    fn publish(&self, inner: &Inner<J>) {
        self.state.set_queue(
            inner.waiting.len() + inner.reserved,
            inner.waiting_tokens + inner.reserved_tokens,
        );
    }

    fn ring(&self) {
        self.wake.notify_one();
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock()
    }
}

impl<J: Job> Inner<J> {
    fn check(&self, max_queued: usize) -> Result<(), Refused> {
        if self.run_state != RunState::Serve {
            return Err(Refused::Draining);
        }
        if self.waiting.len() + self.reserved >= max_queued + self.free_slots {
            return Err(Refused::Full);
        }
        Ok(())
    }

    fn enter(&mut self, priority: i32, job: impl FnOnce(QueueKey) -> J) {
        let key = (Reverse(priority), self.arrivals);
        self.arrivals += 1;
        let job = job(key);
        self.waiting_tokens += job.prompt_tokens() as u64;
        self.waiting.insert(key, job);
    }

    fn remove(&mut self, key: QueueKey) -> Option<J> {
        let job = self.waiting.remove(&key)?;
        self.waiting_tokens -= job.prompt_tokens() as u64;
        Some(job)
    }
}

#[cfg(test)]
mod tests;
