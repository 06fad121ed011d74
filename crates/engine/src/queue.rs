//! The waiting line in front of an engine: bounded, by priority, then by arrival.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::event::{Failure, FailureKind};
use crate::state::State;

mod reservation;

pub use reservation::Reservation;

/// A line of jobs that many tasks join and one engine serves.
pub struct Queue<J> {
    max_queued: usize,
    inner: Mutex<Inner<J>>,
    // For an engine that is a thread.
    wake: Condvar,
    // For an engine that is a task.
    bell: Notify,
    state: Arc<State>,
}

/// A job's place in the line: sorts by priority, then by arrival.
pub type Place = (Reverse<i32>, u64);

/// What the line must know of a job.
pub trait Job {
    /// Tokens of its prompt.
    fn prompt_tokens(&self) -> usize;
    /// When it is dropped from the line.
    fn deadline(&self) -> Option<Instant>;
    /// Whether it is dropped from the line now.
    fn is_cancelled(&self) -> bool;
}

/// Why a job may not join the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The line is full.
    Full,
    /// The worker is shutting down.
    Draining,
}

/// What the engine thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// Serve.
    Serve,
    /// Finish what runs; nothing new comes.
    Drain,
    /// Drop everything and end.
    Stop,
}

struct Inner<J> {
    waiting: BTreeMap<Place, J>,
    waiting_tokens: u64,
    // Places that are held by requests that are being prepared, and about how many tokens those have.
    reserved: usize,
    reserved_tokens: u64,
    arrivals: u64,
    free_places: usize,
    orders: Orders,
    woken: bool,
}

// === impl Refused ===

impl Refused {
    /// What the request hears.
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
    /// An empty line before an engine with this many free places.
    pub fn new(max_queued: usize, free_places: usize, state: Arc<State>) -> Self {
        let inner = Inner {
            waiting: BTreeMap::new(),
            waiting_tokens: 0,
            reserved: 0,
            reserved_tokens: 0,
            arrivals: 0,
            free_places,
            orders: Orders::Serve,
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

    /// Joins the line. `job` gets the place, so that whoever waits can leave it again.
    ///
    /// Jobs that the engine has room for do not count against the limit: they only pass through.
    pub fn join(&self, priority: i32, job: impl FnOnce(Place) -> J) -> Result<(), Refused> {
        let mut inner = self.lock();
        inner.check(self.max_queued)?;
        inner.enter(priority, job);
        self.changed(&mut inner);
        Ok(())
    }

    /// Whether a job may join now: asked before anything is done for it.
    pub fn check(&self) -> Result<(), Refused> {
        self.lock().check(self.max_queued)
    }

    /// Leaves the line; where the job has left it already, the engine looks who is still there.
    pub fn leave(&self, place: Place) {
        let mut inner = self.lock();
        inner.remove(place);
        self.changed(&mut inner);
    }

    /// Makes the engine look again.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.ring();
    }

    /// Changes the engine's orders; they only ever get stricter.
    pub fn order(&self, orders: Orders) {
        let mut inner = self.lock();
        if inner.orders != Orders::Stop {
            inner.orders = orders;
        }
        self.changed(&mut inner);
    }

    /// The orders, at once.
    pub fn orders(&self) -> Orders {
        self.lock().orders
    }

    /// Waits until somebody wakes the engine, or until the given time.
    pub fn wait(&self, until: Option<Instant>) -> Orders {
        let mut inner = self.lock();
        while !inner.woken {
            inner = match until {
                None => self
                    .wake
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.wake
                        .wait_timeout(inner, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        inner.woken = false;
        inner.orders
    }

    /// As [`wait`](Self::wait), for an engine that is a task.
    pub async fn woken(&self, until: Option<Instant>) -> Orders {
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
        self.orders()
    }

    /// Takes the first job, if the engine has room for it.
    pub fn take(&self, free_places: usize, fits: impl FnOnce(&J) -> bool) -> Option<J> {
        let mut inner = self.lock();
        inner.free_places = free_places;
        let (place, job) = inner.waiting.first_key_value()?;
        if !fits(job) {
            return None;
        }
        let place = *place;
        let job = inner.remove(place);
        self.publish(&inner);
        job
    }

    /// Takes the jobs that are cancelled or whose deadline has passed; all of them once the worker
    /// drains.
    pub fn take_overdue(&self, now: Instant) -> Vec<J> {
        let mut inner = self.lock();
        let draining = inner.orders != Orders::Serve;
        let overdue: Vec<Place> = inner
            .waiting
            .iter()
            .filter(|(_, job)| {
                draining
                    || job.is_cancelled()
                    || job.deadline().is_some_and(|deadline| deadline <= now)
            })
            .map(|(place, _)| *place)
            .collect();
        if overdue.is_empty() {
            return Vec::new();
        }
        let jobs = overdue
            .into_iter()
            .filter_map(|place| inner.remove(place))
            .collect();
        self.publish(&inner);
        jobs
    }

    /// The first deadline of the waiting jobs.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().waiting.values().filter_map(Job::deadline).min()
    }

    fn changed(&self, inner: &mut Inner<J>) {
        inner.woken = true;
        self.publish(inner);
        self.ring();
    }

    /// Requests that are being prepared wait for their place as well.
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
        // No code of ours panics while it holds the lock; if it ever did, the line is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> Inner<J> {
    fn check(&self, max_queued: usize) -> Result<(), Refused> {
        if self.orders != Orders::Serve {
            return Err(Refused::Draining);
        }
        if self.waiting.len() + self.reserved >= max_queued + self.free_places {
            return Err(Refused::Full);
        }
        Ok(())
    }

    fn enter(&mut self, priority: i32, job: impl FnOnce(Place) -> J) {
        let place = (Reverse(priority), self.arrivals);
        self.arrivals += 1;
        let job = job(place);
        self.waiting_tokens += job.prompt_tokens() as u64;
        self.waiting.insert(place, job);
    }

    fn remove(&mut self, place: Place) -> Option<J> {
        let job = self.waiting.remove(&place)?;
        self.waiting_tokens -= job.prompt_tokens() as u64;
        Some(job)
    }
}

#[cfg(test)]
mod tests;
