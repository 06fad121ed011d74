//! The requests of one priority, ordered by account.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use inferyard_domain::Account;

use super::account::{AccountState, Entry, cost};
use super::departures::Departures;
use super::{Waiter, WaiterId};
use crate::Moment;

/// Bounds the accounts that are remembered while idle, about 150 bytes each. They are remembered so that an account
/// cannot reset its counter by leaving. Beyond the bound, the half with the lowest counters is forgotten.
const MOST_IDLE: usize = 4096;
/// Idle period after which the counters of accounts are reset.
const NEW_DAY: Duration = Duration::from_mins(1);

/// The requests of one priority.
#[derive(Debug, Default)]
pub(super) struct PriorityClass {
    accounts: HashMap<Account, AccountState>,
    /// Accounts with waiting requests, in order of service: cost, last turn, name.
    order: BTreeSet<(u64, u64, Account)>,
    /// The lowest counter of a waiting account when the last request was served. No account starts below it, so that
    /// idle time saves up no credit.
    floor: u64,
    turns: u64,
    waiting: usize,
    drain: Departures,
    /// When a request last joined or was served.
    stirred: Moment,
    /// Accounts with no waiting and no running request.
    idle: usize,
}

// === impl PriorityClass ===

impl PriorityClass {
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests that leave per second; `None`: none recently.
    pub(super) fn pace(&self, now: Moment) -> Option<f64> {
        self.drain.pace(now)
    }

    /// How many requests are served before a further one of this account, if all weights are equal.
    pub(super) fn ahead_of(&self, account: &str) -> usize {
        let own = self.accounts.get(account);
        let own = own.map_or(0, |account| account.queue.len());
        let accounts = self.order.len() + usize::from(own == 0);
        self.waiting.min((own + 1) * accounts - 1)
    }

    /// Adds a request. `again`: it left the queue before, and returns to its former place.
    pub(super) fn push(&mut self, id: WaiterId, waiter: Waiter, again: bool, now: Moment) {
        if self.waiting == 0 && now.saturating_sub(self.stirred) > NEW_DAY {
            self.begin_day();
        }
        self.stirred = now;
        self.waiting += 1;
        let least = if again { 0 } else { self.least() };
        let least = least.max(self.floor);
        self.change(&waiter.policy.account.clone(), |account| {
            if account.queue.is_empty() {
                account.counter = account.counter.max(least);
            }
            let skipped = 0;
            account.queue.insert(id, Entry { waiter, skipped });
        });
    }

    /// Removes a request without serving it.
    pub(super) fn remove(&mut self, id: WaiterId, account: &Account) -> Option<Waiter> {
        let mut entry = None;
        self.change(account, |account| entry = account.queue.remove(&id));
        let entry = entry?;
        self.waiting -= 1;
        self.forget_idle(account);
        Some(entry.waiter)
    }

    /// Removes a request that is sent to a worker, and charges the account for the `prompt_tokens` to be computed
    /// there.
    pub(super) fn serve(
        &mut self,
        id: WaiterId,
        account: &Account,
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
                let cost = cost(prompt_tokens, entry.waiter.policy.weight);
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

    /// Charges a request that is placed without waiting, while it runs.
    pub(super) fn place(&mut self, account: &Account, cost: u64) {
        self.change(account, |account| {
            account.unqueued = account.unqueued.saturating_add(cost);
        });
    }

    /// Ends a request that was placed without waiting. Its whole cost is charged if requests wait by now; otherwise
    /// there is no other account to be fair to.
    pub(super) fn ended_unqueued(&mut self, account: &Account, cost: u64, in_all: u64) {
        let charge = if self.waiting > 0 { in_all } else { 0 };
        self.change(account, |account| {
            account.unqueued = account.unqueued.saturating_sub(cost);
            account.counter = account.counter.saturating_add(charge);
        });
        self.forget_idle(account);
    }

    /// Ends a request that was served from the queue; `charge` maps the account's counter.
    pub(super) fn ended(&mut self, account: &Account, charge: impl FnOnce(u64) -> u64) {
        self.change(account, |account| {
            account.running = account.running.saturating_sub(1);
            account.counter = charge(account.counter);
        });
        self.forget_idle(account);
    }

    /// Adds requests in order until `first` has `most`: the first one of each account, then the second one of each.
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

    /// Notes that a later request was served first.
    pub(super) fn skipped(&mut self, id: WaiterId, account: &str) {
        let account = self.accounts.get_mut(account);
        if let Some(entry) = account.and_then(|account| account.queue.get_mut(&id)) {
            entry.skipped += 1;
        }
    }

    /// Changes an account and keeps `order` and `idle` consistent with it.
    fn change(&mut self, name: &Account, change: impl FnOnce(&mut AccountState)) {
        let turn = |account: &AccountState| (account.got(), account.served, name.clone());
        let account = match self.accounts.entry(name.clone()) {
            Vacant(vacant) => vacant.insert(AccountState::default()),
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

    /// The counter of the account that is next; 0 if no request waits. `unqueued` is left out, because later accounts
    /// start at this value and would be charged for it too.
    fn least(&self) -> u64 {
        let first = self.order.first();
        let first = first.and_then(|(_, _, name)| self.accounts.get(name));
        first.map_or(0, |account| account.counter)
    }

    /// Resets all accounts, except the counters of those with running requests.
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

    /// Forgets an account that would start at the floor anyway, and others if too many are idle.
    fn forget_idle(&mut self, name: &Account) {
        let floor = self.floor;
        let forgettable = |account: &AccountState| account.is_idle() && account.counter <= floor;
        if self.accounts.get(name).is_some_and(forgettable) {
            self.accounts.remove(name);
            self.idle -= 1;
        }
        if self.idle > MOST_IDLE {
            self.forget_half();
        }
    }

    /// Forgets the half of the idle accounts with the lowest counters.
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

    /// Whether all accounts are idle, and counted as idle.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.order.is_empty()
            && self.idle == self.accounts.len()
            && self.accounts.values().all(AccountState::is_idle)
    }
}
