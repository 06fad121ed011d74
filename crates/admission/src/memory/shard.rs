//! The accounts of one shard: what each call does to their levels and leases.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use inferyard_domain::Account;
use inferyard_proto::outbox::Entry;

use super::record::LeaseRecord;
use crate::clock::micros;
use crate::levels::{Change, Levels, Now, Outcome, least, number, whole};
use crate::store::{Admission, AdmissionDecision, Lease, Progressed, Settled, Used};

/// Microseconds for which the id of a settled request is remembered at least; twice that at most.
const REMEMBERED_US: u64 = 600_000_000;
/// Microseconds for which the record of an expired lease is kept, in case its end arrives late.
const EXPIRED_KEPT_US: u64 = 3_600_000_000;
/// Microseconds after which an idle account is forgotten; longer than any window.
const ACCOUNT_KEPT_US: u64 = 40 * 86_400_000_000;

/// The current time of two clocks: wall-clock time for levels, and a steady clock for leases. The steady clock stands
/// still while the machine is suspended, so suspension expires no lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Now,
    /// Microseconds since the store was created.
    pub(super) steady_us: u64,
}

#[derive(Default)]
pub(super) struct Shard {
    pub(super) accounts: HashMap<Account, AccountState>,
    /// Every record, by its `due_us`.
    due: BTreeSet<(u64, Account, [u8; 16])>,
    /// Ids that were settled in this period, and in the previous one.
    settled: [HashSet<[u8; 16]>; 2],
    /// When this period began.
    period_us: Option<u64>,
}

#[derive(Default)]
pub(super) struct AccountState {
    pub(super) scopes: HashMap<Arc<str>, Levels>,
    pub(super) leases: HashMap<[u8; 16], LeaseRecord>,
    pub(super) touched_us: u64,
}

/// The result of one step of a sweep.
pub(super) enum Swept {
    Nothing,
    /// Dropped the record of a lease that had expired long ago.
    Dropped,
    /// Expired a lease; its usage event.
    Ended(Entry),
}

// === impl Shard ===

impl Shard {
    pub(super) fn admit(&mut self, wanted: &Admission, at: Moment) -> AdmissionDecision {
        let Moment { now, steady_us } = at;
        let lease = &wanted.lease;
        let account = self.accounts.entry(lease.account.clone()).or_default();
        account.touched_us = steady_us;
        let known = account.leases.get(&lease.id).map(LeaseRecord::granted);
        let mut scopes: Vec<Levels> = Vec::with_capacity(lease.scopes.len());
        let mut granted = Some(number(wanted.money));
        for scope in &lease.scopes {
            let levels = account.scopes.get(&scope.name).copied();
            let mut levels = levels.unwrap_or_else(|| Levels::at(now));
            levels.leak(&scope.limits, now);
            let grant = levels.grant(&scope.limits, wanted);
            granted = granted.zip(grant).map(|(all, one)| all.min(one));
            scopes.push(levels);
        }
        if wanted.shadow {
            granted = Some(number(wanted.money));
        }
        let outcome = Outcome {
            admitted: known.or(granted).is_some(),
            money: known.or(granted).unwrap_or(0.0),
        };
        if outcome.admitted && known.is_none() {
            let change = Change {
                requests: 1.0,
                lasting: 1.0,
                held_tokens: number(wanted.tokens),
                held_money: outcome.money,
                running: 1.0,
                ..Change::default()
            };
            for (scope, levels) in lease.scopes.iter().zip(&mut scopes) {
                levels.charge(&scope.limits, &change);
                levels.hold(&change);
                account.scopes.insert(Arc::clone(&scope.name), *levels);
            }
            let record = LeaseRecord::new(wanted, outcome.money, steady_us);
            let due = (record.due_us, lease.account.clone(), lease.id);
            self.due.insert(due);
            account.leases.insert(lease.id, record);
        }
        let mut statuses = Vec::new();
        for (scope, levels) in lease.scopes.iter().zip(&scopes) {
            levels.statuses(&scope.limits, wanted, outcome, now, &mut statuses);
        }
        AdmissionDecision {
            admitted: outcome.admitted,
            money: whole(outcome.money),
            statuses,
        }
    }

    pub(super) fn raise(&mut self, wanted: &Admission, at: Moment) -> Option<AdmissionDecision> {
        let (lease, now) = (&wanted.lease, at.now);
        let account = self.accounts.get_mut(&lease.account)?;
        let record = account.leases.get_mut(&lease.id)?;
        let own = Change {
            held_money: -record.held_money()?,
            ..Change::default()
        };
        let mut scopes: Vec<Levels> = Vec::with_capacity(lease.scopes.len());
        let mut granted = number(wanted.money);
        for scope in &lease.scopes {
            let levels = account.scopes.get(&scope.name).copied();
            let mut levels = levels.unwrap_or_else(|| Levels::at(now));
            levels.leak(&scope.limits, now);
            levels.hold(&own);
            granted = granted.min(levels.money_left(&scope.limits));
            scopes.push(levels);
        }
        if wanted.shadow {
            granted = number(wanted.money);
        }
        let admitted = granted >= least(wanted);
        let outcome = Outcome {
            admitted,
            money: if admitted { granted } else { 0.0 },
        };
        if admitted {
            record.raise(granted);
            let change = Change {
                held_money: granted,
                ..Change::default()
            };
            for (scope, levels) in lease.scopes.iter().zip(&mut scopes) {
                levels.hold(&change);
                account.scopes.insert(Arc::clone(&scope.name), *levels);
            }
        }
        let mut statuses = Vec::new();
        for (scope, levels) in lease.scopes.iter().zip(&scopes) {
            levels.statuses(&scope.limits, wanted, outcome, now, &mut statuses);
        }
        Some(AdmissionDecision {
            admitted,
            money: whole(outcome.money),
            statuses,
        })
    }

    pub(super) fn refuse(&mut self, wanted: &Admission, at: Moment) -> AdmissionDecision {
        let (lease, now) = (&wanted.lease, at.now);
        let account = self.accounts.entry(lease.account.clone()).or_default();
        account.touched_us = at.steady_us;
        let mut scopes: Vec<Levels> = Vec::with_capacity(lease.scopes.len());
        let mut admitted = true;
        for scope in &lease.scopes {
            let levels = account.scopes.get(&scope.name).copied();
            let mut levels = levels.unwrap_or_else(|| Levels::at(now));
            levels.leak(&scope.limits, now);
            admitted = admitted && levels.allows_refusal(&scope.limits);
            scopes.push(levels);
        }
        let admitted = admitted || wanted.shadow;
        if admitted {
            let change = Change {
                requests: 1.0,
                ..Change::default()
            };
            for (scope, levels) in lease.scopes.iter().zip(&mut scopes) {
                levels.charge(&scope.limits, &change);
                account.scopes.insert(Arc::clone(&scope.name), *levels);
            }
        }
        let outcome = Outcome {
            admitted,
            money: 0.0,
        };
        let mut statuses = Vec::new();
        for (scope, levels) in lease.scopes.iter().zip(&scopes) {
            levels.statuses(&scope.limits, wanted, outcome, now, &mut statuses);
        }
        AdmissionDecision {
            admitted,
            money: 0,
            statuses,
        }
    }

    pub(super) fn progress(&mut self, lease: &Lease, used: &Used, at: Moment) -> Progressed {
        let account = self.accounts.get_mut(&lease.account);
        let record = account.and_then(|account| account.leases.get_mut(&lease.id));
        let Some(record) = record else {
            return if self.is_settled(&lease.id) {
                Progressed::Ended
            } else {
                Progressed::Unknown
            };
        };
        let before = record.due_us;
        let revived = record.is_expired;
        let change = record.progress(used);
        record.due_us = at.steady_us + micros(lease.lifetime);
        let due = record.due_us;
        let holders = record.scopes.clone();
        self.due.remove(&(before, lease.account.clone(), lease.id));
        self.due.insert((due, lease.account.clone(), lease.id));
        self.apply(lease, &change, at);
        self.hold(&lease.account, &holders, &change);
        if revived {
            Progressed::Revived
        } else {
            Progressed::Renewed
        }
    }

    /// Ends a lease; if there is none, charges the request if `anyway`.
    pub(super) fn end(
        &mut self,
        lease: &Lease,
        used: &Used,
        anyway: bool,
        at: Moment,
    ) -> (Settled, Option<Entry>) {
        let account = self.accounts.get_mut(&lease.account);
        let record = account.and_then(|account| account.leases.remove(&lease.id));
        let (change, entry) = match record {
            Some(record) => {
                let due = (record.due_us, lease.account.clone(), lease.id);
                self.due.remove(&due);
                let holders = record.scopes.clone();
                let (change, entry) = record.end(used);
                self.hold(&lease.account, &holders, &change);
                (change, entry)
            }
            None if self.is_settled(&lease.id) => return (Settled::Already, None),
            None if !anyway => return (Settled::Unknown, None),
            None => super::record::unknown(used),
        };
        self.apply(lease, &change, at);
        self.settled[0].insert(lease.id);
        (Settled::Done, Some(entry))
    }

    fn apply(&mut self, lease: &Lease, change: &Change, at: Moment) {
        let Moment { now, steady_us } = at;
        let account = self.accounts.entry(lease.account.clone()).or_default();
        account.touched_us = steady_us;
        for scope in &lease.scopes {
            let levels = account.scopes.entry(Arc::clone(&scope.name));
            let levels = levels.or_insert_with(|| Levels::at(now));
            levels.leak(&scope.limits, now);
            levels.charge(&scope.limits, change);
        }
    }

    /// Changes what the scopes hold for a lease. Uses the scopes of the record, because the plan may have changed
    /// since.
    fn hold(&mut self, account: &str, scopes: &[Arc<str>], change: &Change) {
        let Some(account) = self.accounts.get_mut(account) else {
            return;
        };
        for scope in scopes {
            if let Some(levels) = account.scopes.get_mut(scope) {
                levels.hold(change);
            }
        }
    }

    fn is_settled(&self, id: &[u8; 16]) -> bool {
        self.settled.iter().any(|period| period.contains(id))
    }

    pub(super) fn sweep_one(&mut self, now_us: u64) -> Swept {
        let Some((due, ..)) = self.due.first() else {
            return Swept::Nothing;
        };
        if *due > now_us {
            return Swept::Nothing;
        }
        let (_, name, id) = self
            .due
            .pop_first()
            .expect("the first should still be there");
        let account = self
            .accounts
            .get_mut(&name)
            .expect("a lease should have an account");
        let record = account
            .leases
            .get_mut(&id)
            .expect("what is due should be recorded");
        if record.is_expired {
            account.leases.remove(&id);
            return Swept::Dropped;
        }
        let (change, entry) = record.expire();
        record.due_us = now_us + EXPIRED_KEPT_US;
        let (due, holders) = (record.due_us, record.scopes.clone());
        self.hold(&name, &holders, &change);
        self.due.insert((due, name, id));
        Swept::Ended(entry)
    }

    /// Forgets settled ids and idle accounts after a period.
    pub(super) fn forget(&mut self, now_us: u64) {
        // A period is measured from the last turn, so an id settled just before a turn is kept for a whole period
        // after it.
        let since_us = *self.period_us.get_or_insert(now_us);
        if now_us.abs_diff(since_us) < REMEMBERED_US {
            return;
        }
        let last = std::mem::take(&mut self.settled[0]);
        self.settled[1] = last;
        self.period_us = Some(now_us);
        self.accounts.retain(|_, account| {
            !account.leases.is_empty() || account.touched_us + ACCOUNT_KEPT_US > now_us
        });
    }
}
