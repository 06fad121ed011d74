//! Who gets a worker: at once, where nobody waits and there is room, or in the order of the line.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use inferyard_placement::recording::{Event, RecordedWork};
use inferyard_placement::{
    Called, Charge, Choice, Claim, Considered, Moment, Waiter, WaiterId, Work, WorkerId,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wait::{Told, Wait};
use super::{Crew, Inner, Slot};
use crate::place::PlaceError;
use crate::place::Placed;
use crate::place::journal::Decided;
use crate::place::seeker::Seeker;
use crate::place::worker::Worker;
use crate::request_id::RequestId;

/// A request that waits, as the crew sees it.
pub(super) struct Waiting {
    request: RequestId,
    claim: Arc<Claim>,
    max_wait: Duration,
    since: Instant,
    tell: oneshot::Sender<Told>,
}

/// What those who waited are to be told, once the crew is not locked any longer: who has left meanwhile
/// gives the worker back at once, and for that it is locked again.
#[derive(Default)]
#[must_use]
pub(super) struct News(Vec<(oneshot::Sender<Told>, Told)>);

/// What a request found.
pub(in crate::place) enum Found {
    Placed(Placed),
    /// All workers are full.
    Wait(Wait),
}

/// What is known of a decision.
struct Decision<'a> {
    request: RequestId,
    work: &'a Work,
    choice: Choice,
    /// Workers that it could not go to.
    barred: &'a [WorkerId],
    considered: Vec<Considered>,
    charge: Charge,
    waited: Duration,
}

// === impl Crew ===

impl Crew {
    /// Gives a request to the best worker that has room and was not tried; or a place in the line.
    pub(in crate::place) fn seek(
        self: &Arc<Self>,
        seeker: &Seeker,
        tried: &[Arc<Worker>],
    ) -> Result<Found, PlaceError> {
        let tried: Vec<WorkerId> = tried.iter().map(|worker| worker.id()).collect();
        let mut considered: Vec<Considered> = Vec::new();
        let mut inner = self.lock();
        let now = self.now();
        let choice = inner
            .pool
            .choose(&seeker.work, &tried, now, &mut considered)
            .ok_or_else(|| inner.none_ready())?;
        if choice.room && !seeker.must_wait && inner.line.is_empty() {
            let prompt_tokens = seeker.work.uncached_tokens(choice.cost.covered_blocks);
            let charge = inner.line.place(&seeker.claim, prompt_tokens);
            let decision = Decision {
                request: seeker.request,
                work: &seeker.work,
                choice,
                barred: &tried,
                considered,
                charge,
                waited: seeker.waited(),
            };
            let placed = self.give(&mut inner, decision, now);
            return Ok(Found::Placed(placed));
        }
        let (found, news) = self.wait(&mut inner, seeker, tried, now);
        drop(inner);
        news.tell();
        found
    }

    /// Lets a request into the line, out of which it may be called at once.
    fn wait(
        self: &Arc<Self>,
        inner: &mut Inner,
        seeker: &Seeker,
        tried: Vec<WorkerId>,
        now: Moment,
    ) -> (Result<Found, PlaceError>, News) {
        let mut news = News::default();
        let waiter = Waiter {
            claim: Arc::clone(&seeker.claim),
            work: seeker.work.clone(),
            tried,
        };
        let Ok(joined) = inner.line.join(waiter, seeker.had, now) else {
            let refusal = inner.line_is_full(&seeker.claim, seeker.max_wait, now);
            return (Err(refusal), news);
        };
        let pushed_out = joined.pushed_out.and_then(|id| inner.waiting.remove(&id));
        if let Some(waiting) = pushed_out {
            let refusal = inner.line_is_full(&waiting.claim, waiting.max_wait, now);
            news.0.push((waiting.tell, Err(refusal)));
        }
        if !seeker.must_wait {
            let mut considered = Vec::new();
            let Inner { pool, line, .. } = &mut *inner;
            if let Some(called) = line.call_new(joined.id, pool, now, &mut considered) {
                let called = (called, considered);
                let placed = self.answer(inner, seeker.request, seeker.waited(), called, now);
                return (Ok(Found::Placed(placed)), news);
            }
        }
        let (tell, told) = oneshot::channel();
        let waiting = Waiting {
            request: seeker.request,
            claim: Arc::clone(&seeker.claim),
            max_wait: seeker.max_wait,
            since: seeker.since.unwrap_or_else(Instant::now),
            tell,
        };
        inner.waiting.insert(joined.id, waiting);
        let wait = Wait::new(self, joined.id, told);
        (Ok(Found::Wait(wait)), news)
    }

    /// Calls everybody for whom there is room now that there is news of a worker.
    pub(super) fn call(&self, inner: &mut Inner, worker: WorkerId, now: Moment) -> News {
        let mut news = News::default();
        while !inner.line.is_empty() {
            let mut considered = Vec::new();
            let Inner { pool, line, .. } = &mut *inner;
            let Some(called) = line.call(pool, worker, now, &mut considered) else {
                break;
            };
            let waiting = inner.waiting.remove(&called.id);
            let waiting = waiting.expect("everybody in the line should be waited for");
            let called = (called, considered);
            let waited = waiting.since.elapsed();
            let placed = self.answer(inner, waiting.request, waited, called, now);
            news.0.push((waiting.tell, Ok(placed)));
        }
        news
    }

    fn answer(
        &self,
        inner: &mut Inner,
        request: RequestId,
        waited: Duration,
        (called, considered): (Called, Vec<Considered>),
        now: Moment,
    ) -> Placed {
        let decision = Decision {
            request,
            work: &called.waiter.work,
            choice: called.choice,
            barred: &called.barred,
            considered,
            charge: called.charge,
            waited,
        };
        self.give(inner, decision, now)
    }

    /// Gives a request to the worker that was chosen for it.
    fn give(&self, inner: &mut Inner, decision: Decision<'_>, now: Moment) -> Placed {
        let Decision {
            request,
            work,
            choice,
            barred,
            considered,
            charge,
            waited,
        } = decision;
        let Inner { pool, workers, .. } = inner;
        let covered_blocks = choice.cost.covered_blocks;
        let ticket = pool.send(work, choice.worker, covered_blocks, now);
        let worker = workers.get(&choice.worker);
        let worker = worker.expect("every worker of the pool should be here");
        self.record(now, |recorder| Event::Placed {
            request: request.as_str().to_owned(),
            work: RecordedWork::of(work, recorder.blinding),
            tried: barred.iter().map(|worker| worker.number()).collect(),
            worker: choice.worker.number(),
            serial: ticket.serial(),
        });
        let boot_id = pool.boot_id(choice.worker);
        let slot = Slot::new(
            Weak::clone(&self.this),
            Arc::clone(worker),
            ticket,
            boot_id,
            charge,
        );
        let decided = Decided {
            request,
            model: Arc::clone(&self.model),
            at: SystemTime::now(),
            waited,
            prompt_bytes: work.prompt_bytes,
            prompt_tokens: work.prompt_tokens,
            blocks: work.blocks.len(),
            weights: pool.weights(),
            considered,
            chosen: choice.row,
        };
        Placed {
            slot,
            cached: covered_blocks > 0,
            decided: Arc::new(decided),
        }
    }

    /// A request does not wait any longer.
    pub(in crate::place) fn leave(&self, id: WaiterId) {
        let mut inner = self.lock();
        inner.line.leave(id);
        let waiting = inner.waiting.remove(&id);
        drop(inner);
        drop(waiting);
    }

    /// Its time in the line is over.
    pub(in crate::place) fn time_is_over(&self, seeker: &Seeker) -> PlaceError {
        let inner = self.lock();
        let now = self.now();
        if !inner.any_ready() {
            return inner.none_ready();
        }
        PlaceError::WaitOver {
            waited: seeker.max_wait,
            retry_after: inner.line.retry_after(&seeker.claim, seeker.max_wait, now),
        }
    }

    /// How many wait, by the priority of their plans.
    pub(crate) fn waiting(&self) -> Vec<(i32, usize)> {
        self.lock().line.waiting().collect()
    }
}

// === impl Inner ===

impl Inner {
    /// What one is told who finds no place in the line, or loses it.
    fn line_is_full(&self, claim: &Claim, max_wait: Duration, now: Moment) -> PlaceError {
        PlaceError::QueueFull {
            most: claim.most_waiting,
            retry_after: self.line.retry_after(claim, max_wait, now),
        }
    }
}

// === impl News ===

impl News {
    pub(super) fn tell(self) {
        for (tell, told) in self.0 {
            // Who has left gives it back by dropping it.
            let _ = tell.send(told);
        }
    }
}
