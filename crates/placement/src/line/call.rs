//! Who is called next: the first ones in order are looked at, and the first that fits goes.

use std::sync::Arc;

use super::{Charge, Line, Waiter, WaiterId};
use crate::{Choice, Considered, Moment, Pool, Standing, WorkerId};

/// So many are looked at, so that one that fits nowhere does not hold up all.
const MOST_LOOKED_AT: usize = 8;
/// Whom so many have overtaken gets a worker kept: nothing else goes there until it fits.
const MOST_OVERTAKEN: u32 = 32;

/// A request whose turn it is.
#[derive(Debug)]
pub struct Called {
    /// The place that it had.
    pub id: WaiterId,
    /// What it is.
    pub waiter: Waiter,
    /// Where it goes.
    pub choice: Choice,
    /// Those that it could not go to: they failed at it, or are kept for another.
    pub barred: Vec<WorkerId>,
    /// To be given back when it has ended.
    pub charge: Charge,
}

// === impl Line ===

impl Line {
    /// Calls the next one for a worker of which there is news. Another worker may be better for it.
    pub fn call(
        &mut self,
        pool: &mut Pool,
        worker: WorkerId,
        now: Moment,
        considered: &mut Vec<Considered>,
    ) -> Option<Called> {
        if self.is_empty() {
            return None;
        }
        self.release_lost(pool);
        let first = self.first();
        let mut called = None;
        for (rank, id) in first.iter().enumerate() {
            let kept = self.kept.filter(|(_, kept)| *kept == worker);
            if kept.is_some_and(|(owner, _)| owner != *id) {
                continue;
            }
            if self.fits(*id, pool, worker) {
                called = self.try_call(*id, pool, now, considered);
                if called.is_some() {
                    self.overtaken(&first[..rank]);
                    break;
                }
            } else if self.is_due(*id, worker) {
                self.kept = Some((*id, worker));
            }
        }
        self.first = first;
        called
    }

    /// Calls one that has just come, where it is among the first and fits anywhere.
    pub fn call_new(
        &mut self,
        id: WaiterId,
        pool: &mut Pool,
        now: Moment,
        considered: &mut Vec<Considered>,
    ) -> Option<Called> {
        self.release_lost(pool);
        let first = self.first();
        let rank = first.iter().position(|other| *other == id);
        let called = rank.and_then(|_| self.try_call(id, pool, now, considered));
        if let (Some(rank), Some(_)) = (rank, &called) {
            self.overtaken(&first[..rank]);
        }
        self.first = first;
        called
    }

    /// The first ones in order.
    pub(super) fn first(&mut self) -> Vec<WaiterId> {
        let mut first = std::mem::take(&mut self.first);
        first.clear();
        for class in self.classes.values() {
            class.first(MOST_LOOKED_AT, &mut first);
        }
        first
    }

    fn try_call(
        &mut self,
        id: WaiterId,
        pool: &mut Pool,
        now: Moment,
        considered: &mut Vec<Considered>,
    ) -> Option<Called> {
        let kept = self.kept.filter(|(owner, _)| *owner != id);
        let waiter = self.waiter(id)?;
        let mut barred = waiter.tried.clone();
        barred.extend(kept.map(|(_, worker)| worker));
        let choice = pool.choose(&waiter.work, &barred, now, considered)?;
        if !choice.room {
            return None;
        }
        let prompt_tokens = waiter.work.uncached_tokens(choice.cost.covered_blocks);
        // What costs nothing is a turn all the same.
        let prompt_tokens = prompt_tokens.max(1);
        let claim = Arc::clone(&waiter.claim);
        let waiter = self.serve(id, prompt_tokens, now)?;
        Some(Called {
            id,
            waiter,
            choice,
            barred,
            charge: Charge {
                claim,
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

    /// Whether it is time to keep this worker for a request that does not fit there yet.
    fn is_due(&self, id: WaiterId, worker: WorkerId) -> bool {
        self.kept.is_none()
            && self.entry(id).is_some_and(|entry| {
                entry.overtaken >= MOST_OVERTAKEN && !entry.waiter.tried.contains(&worker)
            })
    }

    fn overtaken(&mut self, passed: &[WaiterId]) {
        for id in passed {
            let claim = self.claims.get(id).map(Arc::clone);
            let class = claim.as_ref().and_then(|claim| self.class(claim));
            if let (Some(class), Some(claim)) = (class, &claim) {
                class.overtaken(*id, &claim.account);
            }
        }
    }

    /// A worker that does not serve any longer is kept for nobody.
    fn release_lost(&mut self, pool: &Pool) {
        let serves = |worker| pool.standing(worker) == Standing::Ready;
        self.kept = self.kept.filter(|(_, worker)| serves(*worker));
    }
}
