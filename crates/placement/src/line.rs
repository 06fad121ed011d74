//! The requests of one model that wait until a worker has room, in the order in which they get it.
//!
//! The plans' priority comes first and is strict. Within a priority it is the turn of the account that
//! was served least: a counter per account grows by the tokens that were computed for it, divided by its
//! weight (Sheng et al., *Fairness in Serving Large Language Models*, OSDI '24). Requests that were placed
//! without waiting count while they run, so that the account that filled the workers before others had to
//! wait is not served first. Within an account, requests are served in order of arrival.
//!
//! How many wait is bounded per plan. A full line turns away whoever has most in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::{Moment, Work, WorkerId};

mod account;
mod call;
mod class;
mod drain;

pub use call::Called;

use account::{Entry, cost};
use class::Class;

/// A token of an answer takes about as long as two of a prompt.
const OF_AN_ANSWER: u64 = 2;
/// The least and the longest that anybody is told to stay away. The SDKs take no more than a minute for an
/// answer, and would come back within a second instead.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Who asks, and what its plan grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The account that is served.
    pub account: Arc<str>,
    /// The plan that it is on.
    pub plan: Arc<str>,
    /// The higher goes first.
    pub priority: i32,
    /// Its share, relative to that of other accounts of its priority; at least 1.
    pub weight: u32,
    /// Requests of the plan that may wait.
    pub most_waiting: usize,
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Whose it is.
    pub claim: Arc<Claim>,
    /// What it asks of a worker.
    pub work: Work,
    /// The workers that failed at it before.
    pub tried: Vec<WorkerId>,
}

/// A place in the line. Earlier ones are less; one that comes back takes the place that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(u64);

/// What an account was charged for a request that went to a worker.
#[derive(Debug)]
pub struct Charge {
    claim: Arc<Claim>,
    prompt_tokens: u64,
    /// Whether it left the line for it; else it was placed without waiting.
    queued: bool,
}

/// A request that was let into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its place.
    pub id: WaiterId,
    /// Who has to go for it: the last one of the account that had most in the plan's part of the line.
    pub pushed_out: Option<WaiterId>,
}

/// The plan's part of the line is full, and nobody in it has more there than who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{most} requests of the plan wait already")]
pub struct Full {
    /// How many those are.
    pub most: usize,
}

/// The line of one model.
#[derive(Debug, Default)]
pub struct Line {
    classes: BTreeMap<Reverse<i32>, Class>,
    claims: HashMap<WaiterId, Arc<Claim>>,
    plans: HashMap<Arc<str>, usize>,
    last: u64,
    /// A worker that gets nothing else until this request fits there.
    kept: Option<(WaiterId, WorkerId)>,
    /// Kept for its room.
    first: Vec<WaiterId>,
}

// === impl Line ===

impl Line {
    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// How many wait, by the priority of their plans; also of those that nobody waits in any more.
    pub fn waiting(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        let classes = self.classes.iter();
        classes.map(|(priority, class)| (priority.0, class.waiting()))
    }

    /// Lets a request wait. `again`: the place that it had, where a worker refused it after all.
    ///
    /// # Errors
    ///
    /// The plan's part of the line is full.
    pub fn join(
        &mut self,
        waiter: Waiter,
        again: Option<WaiterId>,
        now: Moment,
    ) -> Result<Joined, Full> {
        let claim = Arc::clone(&waiter.claim);
        let mut pushed_out = None;
        if again.is_none() && self.of_plan(&claim.plan) >= claim.most_waiting {
            pushed_out = self.most_greedy(&claim);
            let Some(last) = pushed_out else {
                let most = claim.most_waiting;
                return Err(Full { most });
            };
            self.leave(last);
        }
        let id = again.unwrap_or_else(|| {
            self.last += 1;
            WaiterId(self.last)
        });
        *self.plans.entry(Arc::clone(&claim.plan)).or_default() += 1;
        let class = self.classes.entry(Reverse(claim.priority)).or_default();
        class.push(id, waiter, again.is_some(), now);
        self.claims.insert(id, claim);
        Ok(Joined { id, pushed_out })
    }

    /// A request waits no longer; `None`: it did not.
    pub fn leave(&mut self, id: WaiterId) -> Option<Waiter> {
        let claim = self.forget(id)?;
        self.class(&claim)?.remove(id, &claim.account)
    }

    /// A request goes to a worker without waiting; `prompt_tokens` of its prompt have to be computed there. Its
    /// account is charged while it runs.
    pub fn place(&mut self, claim: &Arc<Claim>, prompt_tokens: u64) -> Charge {
        // What costs nothing is a turn all the same.
        let prompt_tokens = prompt_tokens.max(1);
        let class = self.classes.entry(Reverse(claim.priority)).or_default();
        class.place(&claim.account, cost(prompt_tokens, claim.weight));
        Charge {
            claim: Arc::clone(claim),
            prompt_tokens,
            queued: false,
        }
    }

    /// A request that went to a worker has ended; its answer has `answer_tokens` tokens.
    pub fn ended(&mut self, charge: &Charge, answer_tokens: u64) {
        let claim = &charge.claim;
        let tokens = answer_tokens.saturating_mul(OF_AN_ANSWER);
        let more = cost(tokens, claim.weight);
        let prompt = cost(charge.prompt_tokens, claim.weight);
        let Some(class) = self.class(claim) else {
            return;
        };
        if charge.queued {
            class.ended(&claim.account, |counter| counter.saturating_add(more));
        } else {
            class.ended_unqueued(&claim.account, prompt, prompt.saturating_add(more));
        }
    }

    /// A worker had no room for it after all: nothing was computed.
    pub fn refused(&mut self, charge: &Charge) {
        let claim = &charge.claim;
        let back = cost(charge.prompt_tokens, claim.weight);
        let Some(class) = self.class(claim) else {
            return;
        };
        if charge.queued {
            class.ended(&claim.account, |counter| counter.saturating_sub(back));
        } else {
            class.ended_unqueued(&claim.account, back, 0);
        }
    }

    /// When who was turned away should come back: after so many as stand before it have left, at the pace at
    /// which they do. Where none has left yet: after the time that it may wait.
    #[must_use]
    pub fn retry_after(&self, claim: &Claim, max_wait: Duration, now: Moment) -> Duration {
        let class = self.classes.get(&Reverse(claim.priority));
        let pace = class.and_then(|class| class.pace(now));
        let ahead = class.map_or(0, |class| class.ahead_of(&claim.account));
        let after = pace.map_or(max_wait, |pace| {
            let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
            let seconds = (f64::from(ahead) + 1.0) / pace;
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        });
        after.clamp(RETRY_AFTER.0, RETRY_AFTER.1)
    }

    fn of_plan(&self, plan: &str) -> usize {
        self.plans.get(plan).copied().unwrap_or(0)
    }

    /// The last request of the account that has most of the plan's requests in the line, where those are more
    /// than who asks would have.
    fn most_greedy(&self, claim: &Claim) -> Option<WaiterId> {
        let mut waiting: HashMap<&Arc<str>, (usize, WaiterId)> = HashMap::new();
        for (id, other) in &self.claims {
            if other.plan == claim.plan {
                let (count, last) = waiting.entry(&other.account).or_insert((0, *id));
                *count += 1;
                *last = (*last).max(*id);
            }
        }
        let own = waiting.get(&claim.account).map_or(0, |(count, _)| *count);
        let most = waiting.values().max()?;
        Some(most.1).filter(|_| most.0 > own + 1)
    }

    /// Its turn has come: it leaves for a worker.
    fn serve(&mut self, id: WaiterId, prompt_tokens: u64, now: Moment) -> Option<Waiter> {
        let claim = self.forget(id)?;
        let class = self.class(&claim)?;
        class.serve(id, &claim.account, prompt_tokens, now)
    }

    fn forget(&mut self, id: WaiterId) -> Option<Arc<Claim>> {
        let claim = self.claims.remove(&id)?;
        if let Some(count) = self.plans.get_mut(&claim.plan) {
            *count -= 1;
            if *count == 0 {
                self.plans.remove(&claim.plan);
            }
        }
        if self.kept.is_some_and(|(owner, _)| owner == id) {
            self.kept = None;
        }
        Some(claim)
    }

    fn entry(&self, id: WaiterId) -> Option<&Entry> {
        let claim = self.claims.get(&id)?;
        let class = self.classes.get(&Reverse(claim.priority))?;
        class.entry(id, &claim.account)
    }

    fn waiter(&self, id: WaiterId) -> Option<&Waiter> {
        self.entry(id).map(|entry| &entry.waiter)
    }

    fn class(&mut self, claim: &Claim) -> Option<&mut Class> {
        self.classes.get_mut(&Reverse(claim.priority))
    }
}

#[cfg(test)]
mod tests;
