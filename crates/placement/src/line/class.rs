//! The requests of one priority: whose turn it is.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::account::{Account, Entry, cost};
use super::drain::Drain;
use super::{Waiter, WaiterId};
use crate::Moment;

/// Accounts that neither wait nor run are remembered, so that nobody gets rid of what it was served by
/// leaving; up to so many, about 150 bytes each. Beyond, those go that were served least.
const MOST_IDLE: usize = 4096;
/// When nobody has waited for so long, it is a new day, and what was before is forgotten.
const NEW_DAY: Duration = Duration::from_mins(1);

/// The requests of one priority.
#[derive(Debug, Default)]
pub(super) struct Class {
    accounts: HashMap<Arc<str>, Account>,
    /// The accounts that wait, whose turn it is first: what each has got, when last served, name.
    order: BTreeSet<(u64, u64, Arc<str>)>,
    /// The least counter of those that waited when the last one was served. Nobody begins below, so that
    /// nobody saves up.
    floor: u64,
    turns: u64,
    waiting: usize,
    drain: Drain,
    /// When somebody came or was served last.
    stirred: Moment,
    /// How many accounts neither wait nor run.
    idle: usize,
}

// === impl Class ===

impl Class {
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests that leave per second.
    pub(super) fn pace(&self, now: Moment) -> Option<f64> {
        self.drain.pace(now)
    }

    /// How many are served before a further request of this account, as far as weights do not matter.
    pub(super) fn ahead_of(&self, account: &str) -> usize {
        let own = self.accounts.get(account);
        let own = own.map_or(0, |account| account.queue.len());
        let accounts = self.order.len() + usize::from(own == 0);
        self.waiting.min((own + 1) * accounts - 1)
    }

    /// A request begins to wait. `again`: it had its turn, and goes on waiting at the place that it had.
    pub(super) fn push(&mut self, id: WaiterId, waiter: Waiter, again: bool, now: Moment) {
        if self.waiting == 0 && now.saturating_sub(self.stirred) > NEW_DAY {
            self.begin_day();
        }
        self.stirred = now;
        self.waiting += 1;
        let least = if again { 0 } else { self.least() };
        let least = least.max(self.floor);
        self.change(&Arc::clone(&waiter.claim.account), |account| {
            if account.queue.is_empty() {
                account.counter = account.counter.max(least);
            }
            let overtaken = 0;
            account.queue.insert(id, Entry { waiter, overtaken });
        });
    }

    /// A request waits no longer.
    pub(super) fn remove(&mut self, id: WaiterId, account: &Arc<str>) -> Option<Waiter> {
        let mut entry = None;
        self.change(account, |account| entry = account.queue.remove(&id));
        let entry = entry?;
        self.waiting -= 1;
        self.forget_idle(account);
        Some(entry.waiter)
    }

    /// The request leaves for a worker that has to compute so many tokens of its prompt.
    pub(super) fn serve(
        &mut self,
        id: WaiterId,
        account: &Arc<str>,
        prompt_tokens: u64,
        now: Moment,
    ) -> Option<Waiter> {
        self.floor = self.floor.max(self.least());
        self.turns += 1;
        let turn = self.turns;
        let mut entry = None;
        self.change(account, |account| {
            entry = account.queue.remove(&id);
            if let Some(entry) = &entry {
                let cost = cost(prompt_tokens, entry.waiter.claim.weight);
                account.counter = account.counter.saturating_add(cost);
                account.served = turn;
                account.running += 1;
            }
        });
        let entry = entry?;
        self.waiting -= 1;
        self.stirred = now;
        self.drain.left(now);
        Some(entry.waiter)
    }

    /// A request was placed without waiting, on a worker that has to compute so much of its prompt.
    pub(super) fn place(&mut self, account: &Arc<str>, cost: u64) {
        self.change(account, |account| {
            account.unqueued = account.unqueued.saturating_add(cost);
        });
    }

    /// A request that was placed without waiting has ended. Its whole cost is charged if requests wait
    /// by now; otherwise there is no other account to be fair to.
    pub(super) fn ended_unqueued(&mut self, account: &Arc<str>, cost: u64, in_all: u64) {
        let charge = if self.waiting > 0 { in_all } else { 0 };
        self.change(account, |account| {
            account.unqueued = account.unqueued.saturating_sub(cost);
            account.counter = account.counter.saturating_add(charge);
        });
        self.forget_idle(account);
    }

    /// A request that was served has ended, which changes its account's counter.
    pub(super) fn ended(&mut self, account: &Arc<str>, charge: impl FnOnce(u64) -> u64) {
        self.change(account, |account| {
            account.running = account.running.saturating_sub(1);
            account.counter = charge(account.counter);
        });
        self.forget_idle(account);
    }

    /// Adds the first ones in order, up to so many: the first of each account, then the second of each.
    pub(super) fn first(&self, most: usize, first: &mut Vec<WaiterId>) {
        for depth in 0..most {
            let before = first.len();
            for (_, _, account) in &self.order {
                if first.len() == most {
                    return;
                }
                let account = self.accounts.get(account);
                first.extend(account.and_then(|account| account.queue.keys().nth(depth)));
            }
            if first.len() == before {
                return;
            }
        }
    }

    pub(super) fn entry(&self, id: WaiterId, account: &str) -> Option<&Entry> {
        self.accounts.get(account)?.queue.get(&id)
    }

    /// One that came later was served before it.
    pub(super) fn overtaken(&mut self, id: WaiterId, account: &str) {
        let account = self.accounts.get_mut(account);
        if let Some(entry) = account.and_then(|account| account.queue.get_mut(&id)) {
            entry.overtaken += 1;
        }
    }

    /// Changes an account, and with it its place in the order.
    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Account)) {
        let turn = |account: &Account| (account.got(), account.served, Arc::clone(name));
        let account = match self.accounts.entry(Arc::clone(name)) {
            Vacant(vacant) => vacant.insert(Account::default()),
            Occupied(occupied) => {
                let account = occupied.into_mut();
                self.idle -= usize::from(account.is_idle());
                account
            }
        };
        if !account.queue.is_empty() {
            self.order.remove(&turn(account));
        }
        change(account);
        if !account.queue.is_empty() {
            self.order.insert(turn(account));
        }
        self.idle += usize::from(account.is_idle());
    }

    /// The counter of the account whose turn is first; 0 if no request waits. What that account runs without having
    /// waited is left out, or accounts that come later would be charged for it too.
    fn least(&self) -> u64 {
        let first = self.order.first();
        let first = first.and_then(|(_, _, name)| self.accounts.get(name));
        first.map_or(0, |account| account.counter)
    }

    /// Forgets what was before, but for what still runs.
    fn begin_day(&mut self) {
        self.accounts.retain(|_, account| !account.is_idle());
        self.idle = 0;
        for account in self.accounts.values_mut() {
            // No request waits, so `order` holds no account that would have to move.
            if account.running == 0 {
                account.counter = 0;
            }
        }
    }

    /// Forgets an account that would begin at the floor anyway; and others, where there are too many.
    fn forget_idle(&mut self, name: &Arc<str>) {
        let floor = self.floor;
        let forgettable = |account: &Account| account.is_idle() && account.counter <= floor;
        if self.accounts.get(name).is_some_and(forgettable) {
            self.accounts.remove(name);
            self.idle -= 1;
        }
        if self.idle > MOST_IDLE {
            self.forget_half();
        }
    }

    /// Forgets those who were served least beyond the others.
    fn forget_half(&mut self) {
        let idle = self.accounts.values().filter(|account| account.is_idle());
        let mut counters: Vec<u64> = idle.map(|account| account.counter).collect();
        let half = counters.len() / 2;
        let (_, middle, _) = counters.select_nth_unstable(half);
        let middle = (*middle).max(self.floor);
        self.accounts
            .retain(|_, account| !account.is_idle() || account.counter > middle);
        let idle = self.accounts.values().filter(|account| account.is_idle());
        self.idle = idle.count();
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    /// Whether no account waits or runs, and all of them are counted as such.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.order.is_empty()
            && self.idle == self.accounts.len()
            && self.accounts.values().all(Account::is_idle)
    }
}
