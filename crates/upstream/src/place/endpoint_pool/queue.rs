//! Assigns requests to workers: at once if no request waits and a worker has room, otherwise in the order of the
//! queue.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use inferyard_placement::recording::{Event, RecordedWork};
use inferyard_placement::{
    Candidate, Charge, Dequeued, Moment, QueuePolicy, Selection, Waiter, WaiterId, Work, WorkerId,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wait::{QueueOutcome, Wait};
use super::{EndpointPool, Inner, Slot};
use crate::place::PlaceError;
use crate::place::Placed;
use crate::place::decision_log::PlacementDecision;
use crate::place::request::PlacementRequest;
use crate::place::worker::Worker;
use inferyard_domain::RequestId;

/// A request in the queue, with the channel for its result.
pub(super) struct Waiting {
    request: RequestId,
    policy: Arc<QueuePolicy>,
    max_wait: Duration,
    since: Instant,
    tell: oneshot::Sender<QueueOutcome>,
}

/// Results for queued requests, to be sent after the lock of the pool is released. If the receiver is gone, the send
/// drops the [`Slot`], and dropping a slot takes that lock again; under the lock it would deadlock.
#[derive(Default)]
#[must_use]
pub(super) struct Wakeups(Vec<(oneshot::Sender<QueueOutcome>, QueueOutcome)>);

/// The result of seeking a worker.
pub(in crate::place) enum Found {
    Placed(Placed),
    /// All workers are full; the request is in the queue.
    Wait(Wait),
}

/// A request and the worker chosen for it.
struct Assignment<'a> {
    request: RequestId,
    work: &'a Work,
    choice: Selection,
    /// Workers that were not eligible.
    barred: &'a [WorkerId],
    candidates: Vec<Candidate>,
    charge: Charge,
    waited: Duration,
}

// === impl EndpointPool ===

impl EndpointPool {
    /// Assigns a request to the best worker that has room and is not in `tried`, or puts it into the queue.
    ///
    /// # Errors
    ///
    /// [`PlaceError`] if no worker is ready or the queue is full.
    pub(in crate::place) fn seek(
        self: &Arc<Self>,
        placement: &PlacementRequest,
        tried: &[Arc<Worker>],
    ) -> Result<Found, PlaceError> {
        let tried: Vec<WorkerId> = tried.iter().map(|worker| worker.id()).collect();
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut inner = self.lock();
        let now = self.now();
        let choice = inner
            .pool
            .choose(&placement.work, &tried, now, &mut candidates)
            .ok_or_else(|| inner.none_ready())?;
        if choice.room && !placement.must_wait && inner.queue.is_empty() {
            let prompt_tokens = placement.work.uncached_tokens(choice.cost.cached_blocks);
            let charge = inner.queue.place(&placement.policy, prompt_tokens);
            let decision = Assignment {
                request: placement.request,
                work: &placement.work,
                choice,
                barred: &tried,
                candidates,
                charge,
                waited: placement.waited(),
            };
            let placed = self.give(&mut inner, decision, now);
            return Ok(Found::Placed(placed));
        }
        let (found, wakeups) = self.wait(&mut inner, placement, tried, now);
        drop(inner);
        wakeups.notify();
        found
    }

    /// Puts a request into the queue, and dequeues it at once if it is among the first and a worker has room.
    fn wait(
        self: &Arc<Self>,
        inner: &mut Inner,
        placement: &PlacementRequest,
        tried: Vec<WorkerId>,
        now: Moment,
    ) -> (Result<Found, PlaceError>, Wakeups) {
        let mut wakeups = Wakeups::default();
        let waiter = Waiter {
            policy: Arc::clone(&placement.policy),
            work: placement.work.clone(),
            tried,
        };
        let Ok(joined) = inner.queue.join(waiter, placement.had, now) else {
            let refusal = inner.queue_is_full(&placement.policy, placement.max_wait, now);
            return (Err(refusal), wakeups);
        };
        let pushed_out = joined.pushed_out.and_then(|id| inner.waiting.remove(&id));
        if let Some(waiting) = pushed_out {
            let refusal = inner.queue_is_full(&waiting.policy, waiting.max_wait, now);
            wakeups.0.push((waiting.tell, Err(refusal)));
        }
        if !placement.must_wait {
            let mut candidates = Vec::new();
            let Inner { pool, queue, .. } = &mut *inner;
            if let Some(dequeued) = queue.dequeue_new(joined.id, pool, now, &mut candidates) {
                let dequeued = (dequeued, candidates);
                let placed =
                    self.answer(inner, placement.request, placement.waited(), dequeued, now);
                return (Ok(Found::Placed(placed)), wakeups);
            }
        }
        let (tell, told) = oneshot::channel();
        let waiting = Waiting {
            request: placement.request,
            policy: Arc::clone(&placement.policy),
            max_wait: placement.max_wait,
            since: placement.since.unwrap_or_else(Instant::now),
            tell,
        };
        inner.waiting.insert(joined.id, waiting);
        let wait = Wait::new(self, joined.id, told);
        (Ok(Found::Wait(wait)), wakeups)
    }

    /// Dequeues every request that fits, after the state of `worker` changed.
    pub(super) fn call(&self, inner: &mut Inner, worker: WorkerId, now: Moment) -> Wakeups {
        let mut wakeups = Wakeups::default();
        while !inner.queue.is_empty() {
            let mut candidates = Vec::new();
            let Inner { pool, queue, .. } = &mut *inner;
            let Some(dequeued) = queue.dequeue(pool, worker, now, &mut candidates) else {
                break;
            };
            let waiting = inner.waiting.remove(&dequeued.id);
            let waiting = waiting.expect("everybody in the queue should be waited for");
            let dequeued = (dequeued, candidates);
            let waited = waiting.since.elapsed();
            let placed = self.answer(inner, waiting.request, waited, dequeued, now);
            wakeups.0.push((waiting.tell, Ok(placed)));
        }
        wakeups
    }

    fn answer(
        &self,
        inner: &mut Inner,
        request: RequestId,
        waited: Duration,
        (dequeued, candidates): (Dequeued, Vec<Candidate>),
        now: Moment,
    ) -> Placed {
        let decision = Assignment {
            request,
            work: &dequeued.waiter.work,
            choice: dequeued.choice,
            barred: &dequeued.barred,
            candidates,
            charge: dequeued.charge,
            waited,
        };
        self.give(inner, decision, now)
    }

    /// Sends a request to its chosen worker: takes the slot and records the decision.
    fn give(&self, inner: &mut Inner, decision: Assignment<'_>, now: Moment) -> Placed {
        let Assignment {
            request,
            work,
            choice,
            barred,
            candidates,
            charge,
            waited,
        } = decision;
        let Inner { pool, workers, .. } = inner;
        let cached_blocks = choice.cost.cached_blocks;
        let ticket = pool.send(work, choice.worker, cached_blocks, now);
        let worker = workers.get(&choice.worker);
        let worker = worker.expect("every worker of the pool should be here");
        self.record(now, |recorder| Event::Placed {
            request: request.as_str().to_owned(),
            work: RecordedWork::of(work, recorder.blinding),
            tried: barred.iter().map(|worker| worker.number()).collect(),
            worker: choice.worker.number(),
            serial: ticket.serial(),
        });
        let instance = pool.instance(choice.worker);
        let slot = Slot::new(
            Weak::clone(&self.this),
            Arc::clone(worker),
            ticket,
            instance,
            charge,
        );
        let decision = PlacementDecision {
            request,
            model: self.model.clone(),
            at: SystemTime::now(),
            waited,
            prompt_bytes: work.prompt_bytes,
            prompt_tokens: work.prompt_tokens,
            blocks: work.blocks.len(),
            weights: pool.weights(),
            candidates,
            chosen: choice.row,
        };
        Placed {
            slot,
            cached: cached_blocks > 0,
            decision: Arc::new(decision),
        }
    }

    /// Removes a request from the queue.
    pub(in crate::place) fn leave(&self, id: WaiterId) {
        let mut inner = self.lock();
        inner.queue.leave(id);
        let waiting = inner.waiting.remove(&id);
        drop(inner);
        drop(waiting);
    }

    /// The error of a request that waited as long as its plan allows.
    pub(in crate::place) fn time_is_over(&self, placement: &PlacementRequest) -> PlaceError {
        let inner = self.lock();
        let now = self.now();
        if !inner.any_ready() {
            return inner.none_ready();
        }
        PlaceError::WaitOver {
            waited: placement.max_wait,
            retry_after: inner
                .queue
                .retry_after(&placement.policy, placement.max_wait, now),
        }
    }

    /// Requests that wait, by priority.
    pub(crate) fn waiting(&self) -> Vec<(i32, usize)> {
        self.lock().queue.waiting().collect()
    }
}

// === impl Inner ===

impl Inner {
    /// The refusal of a request that finds no place in the queue or was pushed out.
    fn queue_is_full(&self, policy: &QueuePolicy, max_wait: Duration, now: Moment) -> PlaceError {
        PlaceError::QueueFull {
            most: policy.most_waiting,
            retry_after: self.queue.retry_after(policy, max_wait, now),
        }
    }
}

// === impl Wakeups ===

impl Wakeups {
    pub(super) fn notify(self) {
        for (tell, told) in self.0 {
            // If the receiver is gone, dropping the result frees the slot.
            let _ = tell.send(told);
        }
    }
}
