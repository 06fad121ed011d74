//! Which request leaves the queue next: the first requests in order are tried, and the first that fits is sent.

use std::sync::Arc;

use super::{Charge, Queue, Waiter, WaiterId};
use crate::{Candidate, EndpointState, Moment, Pool, Selection, WorkerId};

/// How many requests are tried, so that one that fits nowhere does not block the others.
const MOST_LOOKED_AT: usize = 8;
/// After this many later requests were served first, a worker is reserved for the request until it fits there. It
/// prevents starvation of large prompts.
const MOST_SKIPPED: u32 = 32;

/// A request that leaves the queue for a worker.
#[derive(Debug)]
pub struct Dequeued {
    /// Its former place.
    pub id: WaiterId,
    /// The request.
    pub waiter: Waiter,
    /// The chosen worker.
    pub choice: Selection,
    /// Workers that were not eligible: they failed the request, or are reserved for another one.
    pub barred: Vec<WorkerId>,
    /// Must be settled by `Queue::ended` or `Queue::refused`.
    pub charge: Charge,
}

// === impl Queue ===

impl Queue {
    /// Dequeues the next request that fits on `worker`, which has changed. The request may still go to a better
    /// worker.
    pub fn dequeue(
        &mut self,
        pool: &mut Pool,
        worker: WorkerId,
        now: Moment,
        candidates: &mut Vec<Candidate>,
    ) -> Option<Dequeued> {
        if self.is_empty() {
            return None;
        }
        self.release_lost(pool);
        let first = self.first();
        let mut dequeued = None;
        for (rank, id) in first.iter().enumerate() {
            let reserved = self.reserved.filter(|(_, reserved)| *reserved == worker);
            if reserved.is_some_and(|(owner, _)| owner != *id) {
                continue;
            }
            if self.fits(*id, pool, worker) {
                dequeued = self.try_dequeue(*id, pool, now, candidates);
                if dequeued.is_some() {
                    self.skipped(&first[..rank]);
                    break;
                }
            } else if self.is_due(*id, worker) {
                self.reserved = Some((*id, worker));
            }
        }
        self.first = first;
        dequeued
    }

    /// Dequeues a request that has just joined, if it is among the first and any worker has room for it.
    pub fn dequeue_new(
        &mut self,
        id: WaiterId,
        pool: &mut Pool,
        now: Moment,
        candidates: &mut Vec<Candidate>,
    ) -> Option<Dequeued> {
        self.release_lost(pool);
        let first = self.first();
        let rank = first.iter().position(|other| *other == id);
        let dequeued = rank.and_then(|_| self.try_dequeue(id, pool, now, candidates));
        if let (Some(rank), Some(_)) = (rank, &dequeued) {
            self.skipped(&first[..rank]);
        }
        self.first = first;
        dequeued
    }

    /// The first [`MOST_LOOKED_AT`] requests in order.
    pub(super) fn first(&mut self) -> Vec<WaiterId> {
        let mut first = std::mem::take(&mut self.first);
        first.clear();
        for class in self.classes.values() {
            class.first(MOST_LOOKED_AT, &mut first);
        }
        first
    }

    fn try_dequeue(
        &mut self,
        id: WaiterId,
        pool: &mut Pool,
        now: Moment,
        candidates: &mut Vec<Candidate>,
    ) -> Option<Dequeued> {
        let reserved = self.reserved.filter(|(owner, _)| *owner != id);
        let waiter = self.waiter(id)?;
        let mut barred = waiter.tried.clone();
        barred.extend(reserved.map(|(_, worker)| worker));
        let choice = pool.choose(&waiter.work, &barred, now, candidates)?;
        if !choice.room {
            return None;
        }
        let prompt_tokens = waiter.work.uncached_tokens(choice.cost.cached_blocks);
        // A fully cached prompt still counts as a turn.
        let prompt_tokens = prompt_tokens.max(1);
        let policy = Arc::clone(&waiter.policy);
        let waiter = self.serve(id, prompt_tokens, now)?;
        Some(Dequeued {
            id,
            waiter,
            choice,
            barred,
            charge: Charge {
                policy,
                prompt_tokens,
                queued: true,
            },
        })
    }

    fn fits(&self, id: WaiterId, pool: &Pool, worker: WorkerId) -> bool {
        self.waiter(id).is_some_and(|waiter| {
            !waiter.tried.contains(&worker) && pool.has_room(worker, &waiter.work)
        })
    }

    /// Whether this worker should be reserved for a request that does not fit there yet.
    fn is_due(&self, id: WaiterId, worker: WorkerId) -> bool {
        self.reserved.is_none()
            && self.entry(id).is_some_and(|entry| {
                entry.skipped >= MOST_SKIPPED && !entry.waiter.tried.contains(&worker)
            })
    }

    fn skipped(&mut self, passed: &[WaiterId]) {
        for id in passed {
            let policy = self.policies.get(id).map(Arc::clone);
            let class = policy.as_ref().and_then(|policy| self.class(policy));
            if let (Some(class), Some(policy)) = (class, &policy) {
                class.skipped(*id, &policy.account);
            }
        }
    }

    /// Releases a worker that is not ready any more.
    fn release_lost(&mut self, pool: &Pool) {
        let serves = |worker| pool.endpoint_state(worker) == EndpointState::Ready;
        self.reserved = self.reserved.filter(|(_, worker)| serves(*worker));
    }
}
