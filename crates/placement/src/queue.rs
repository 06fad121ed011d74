//! The queue of one model: requests that wait until a worker has room, in the order in which they are served.
//!
//! The plans' priority comes first and is strict. Within a priority, the account that was served least is next: a
//! counter per account grows by the tokens computed for it, divided by its weight (Sheng et al., *Fairness in Serving
//! Large Language Models*, OSDI '24). Requests that were placed without waiting count while they run, so that an
//! account that filled the workers before others had to wait is not served first. Within an account, requests are
//! served in order of arrival.
//!
//! Each plan bounds how many of its requests wait. If the plan's share of the queue is full, the account with most
//! requests in it loses its last one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use inferyard_domain::{Account, PlanName};

use crate::{Moment, Work, WorkerId};

mod account;
mod dequeue;
mod priority_class;
mod departures;

pub use dequeue::Dequeued;

use account::{Entry, cost};
use priority_class::PriorityClass;

/// How many prompt tokens one answer token counts as, because it takes about as long to compute.
const OF_AN_ANSWER: u64 = 2;
/// Bounds of `Retry-After`. The SDKs ignore values above a minute and retry within a second instead.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The account of a request, and what its plan grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The account that is served and charged.
    pub account: Account,
    /// Its plan.
    pub plan: PlanName,
    /// Higher priorities are served first.
    pub priority: i32,
    /// The account's share, relative to other accounts of its priority; at least 1.
    pub weight: u32,
    /// The most requests of the plan that may wait.
    pub most_waiting: usize,
}

/// A request in the queue.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Its account and plan.
    pub policy: Arc<QueuePolicy>,
    /// What it needs from a worker.
    pub work: Work,
    /// Workers that already failed it.
    pub tried: Vec<WorkerId>,
}

/// A place in the queue; lower ids come first. A request that returns to the queue keeps its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(u64);

/// What an account was charged for a request that was sent to a worker.
#[derive(Debug)]
pub struct Charge {
    policy: Arc<QueuePolicy>,
    prompt_tokens: u64,
    /// Whether the request left the queue; otherwise it was placed without waiting.
    queued: bool,
}

/// A request that was admitted to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its place.
    pub id: WaiterId,
    /// The request that lost its place: the last one of the account with most requests in the plan's share of the
    /// queue.
    pub pushed_out: Option<WaiterId>,
}

/// The plan's share of the queue is full, and no other account has at least two more requests in it than this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{most} requests of the plan wait already")]
pub struct QueueFull {
    /// The plan's limit of waiting requests.
    pub most: usize,
}

/// The queue of one model.
#[derive(Debug, Default)]
pub struct Queue {
    classes: BTreeMap<Reverse<i32>, PriorityClass>,
    policies: HashMap<WaiterId, Arc<QueuePolicy>>,
    plans: HashMap<PlanName, usize>,
    last: u64,
    /// The worker that takes no other queued request until this one fits there.
    reserved: Option<(WaiterId, WorkerId)>,
    /// Kept between calls to reuse its allocation.
    first: Vec<WaiterId>,
}

// === impl Queue ===

impl Queue {
    /// Whether no request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Requests that wait, by priority; includes priorities with none.
    pub fn waiting(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        let classes = self.classes.iter();
        classes.map(|(priority, class)| (priority.0, class.waiting()))
    }

    /// Adds a request. `again`: its former place, if a worker refused it after it left the queue.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if the plan's share of the queue is full and this account may not push out another.
    pub fn join(
        &mut self,
        waiter: Waiter,
        again: Option<WaiterId>,
        now: Moment,
    ) -> Result<Joined, QueueFull> {
        let policy = Arc::clone(&waiter.policy);
        let mut pushed_out = None;
        if again.is_none() && self.of_plan(&policy.plan) >= policy.most_waiting {
            pushed_out = self.most_greedy(&policy);
            let Some(last) = pushed_out else {
                let most = policy.most_waiting;
                return Err(QueueFull { most });
            };
            self.leave(last);
        }
        let id = again.unwrap_or_else(|| {
            self.last += 1;
            WaiterId(self.last)
        });
        *self.plans.entry(policy.plan.clone()).or_default() += 1;
        let class = self.classes.entry(Reverse(policy.priority)).or_default();
        class.push(id, waiter, again.is_some(), now);
        self.policies.insert(id, policy);
        Ok(Joined { id, pushed_out })
    }

    /// Removes a request; `None`: it was not in the queue.
    pub fn leave(&mut self, id: WaiterId) -> Option<Waiter> {
        let policy = self.forget(id)?;
        self.class(&policy)?.remove(id, &policy.account)
    }

    /// Charges an account for a request that is placed without waiting, while it runs. `prompt_tokens`: tokens of its
    /// prompt that the worker has to compute.
    pub fn place(&mut self, policy: &Arc<QueuePolicy>, prompt_tokens: u64) -> Charge {
        // A fully cached prompt still counts as a turn.
        let prompt_tokens = prompt_tokens.max(1);
        let class = self.classes.entry(Reverse(policy.priority)).or_default();
        class.place(&policy.account, cost(prompt_tokens, policy.weight));
        Charge {
            policy: Arc::clone(policy),
            prompt_tokens,
            queued: false,
        }
    }

    /// Settles the charge of a request that has ended with `answer_tokens` tokens of answer.
    pub fn ended(&mut self, charge: &Charge, answer_tokens: u64) {
        let policy = &charge.policy;
        let tokens = answer_tokens.saturating_mul(OF_AN_ANSWER);
        let more = cost(tokens, policy.weight);
        let prompt = cost(charge.prompt_tokens, policy.weight);
        let Some(class) = self.class(policy) else {
            return;
        };
        if charge.queued {
            class.ended(&policy.account, |counter| counter.saturating_add(more));
        } else {
            class.ended_unqueued(&policy.account, prompt, prompt.saturating_add(more));
        }
    }

    /// Takes back the charge of a request that the worker refused: nothing was computed.
    pub fn refused(&mut self, charge: &Charge) {
        let policy = &charge.policy;
        let back = cost(charge.prompt_tokens, policy.weight);
        let Some(class) = self.class(policy) else {
            return;
        };
        if charge.queued {
            class.ended(&policy.account, |counter| counter.saturating_sub(back));
        } else {
            class.ended_unqueued(&policy.account, back, 0);
        }
    }

    /// The time after which a rejected client should retry: until the requests ahead of it have left at the present
    /// pace. `max_wait` if none has left recently. Between a second and a minute.
    #[must_use]
    pub fn retry_after(&self, policy: &QueuePolicy, max_wait: Duration, now: Moment) -> Duration {
        let class = self.classes.get(&Reverse(policy.priority));
        let pace = class.and_then(|class| class.pace(now));
        let ahead = class.map_or(0, |class| class.ahead_of(&policy.account));
        let after = pace.map_or(max_wait, |pace| {
            let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
            let seconds = (f64::from(ahead) + 1.0) / pace;
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        });
        after.clamp(RETRY_AFTER.0, RETRY_AFTER.1)
    }

    fn of_plan(&self, plan: &PlanName) -> usize {
        self.plans.get(plan).copied().unwrap_or(0)
    }

    /// The last request of the account with most requests in the plan's share of the queue, if these are more than
    /// this account would have with the new one.
    fn most_greedy(&self, policy: &QueuePolicy) -> Option<WaiterId> {
        let mut waiting: HashMap<&Account, (usize, WaiterId)> = HashMap::new();
        for (id, other) in &self.policies {
            if other.plan == policy.plan {
                let (count, last) = waiting.entry(&other.account).or_insert((0, *id));
                *count += 1;
                *last = (*last).max(*id);
            }
        }
        let own = waiting.get(&policy.account).map_or(0, |(count, _)| *count);
        let most = waiting.values().max()?;
        Some(most.1).filter(|_| most.0 > own + 1)
    }

    /// Removes a request that is sent to a worker, and charges its account.
    fn serve(&mut self, id: WaiterId, prompt_tokens: u64, now: Moment) -> Option<Waiter> {
        let policy = self.forget(id)?;
        let class = self.class(&policy)?;
        class.serve(id, &policy.account, prompt_tokens, now)
    }

    fn forget(&mut self, id: WaiterId) -> Option<Arc<QueuePolicy>> {
        let policy = self.policies.remove(&id)?;
        if let Some(count) = self.plans.get_mut(&policy.plan) {
            *count -= 1;
            if *count == 0 {
                self.plans.remove(&policy.plan);
            }
        }
        if self.reserved.is_some_and(|(owner, _)| owner == id) {
            self.reserved = None;
        }
        Some(policy)
    }

    fn entry(&self, id: WaiterId) -> Option<&Entry> {
        let policy = self.policies.get(&id)?;
        let class = self.classes.get(&Reverse(policy.priority))?;
        class.entry(id, &policy.account)
    }

    fn waiter(&self, id: WaiterId) -> Option<&Waiter> {
        self.entry(id).map(|entry| &entry.waiter)
    }

    fn class(&mut self, policy: &QueuePolicy) -> Option<&mut PriorityClass> {
        self.classes.get_mut(&Reverse(policy.priority))
    }
}

#[cfg(test)]
mod tests;
