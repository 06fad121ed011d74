//! The accounts of some buckets: what a call does to their meters and leases.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use inferyard_proto::outbox::Entry;

use super::record::Record;
use crate::clock::micros;
use crate::meters::{Change, Meters, Now, Outcome, least, number, whole};
use crate::store::{Admission, Decision, Lease, Progressed, Settled, Used};

/// What is settled is remembered between this long and twice as long.
const REMEMBERED_US: u64 = 600_000_000;
/// A record of a lease that has expired is kept so long, for its late end.
const EXPIRED_KEPT_US: u64 = 3_600_000_000;
/// Longer than any window: an account that did nothing for so long begins anew.
const ACCOUNT_KEPT_US: u64 = 40 * 86_400_000_000;

/// When it is: by the time of day, as meters have it, and by the clock that never jumps, as leases have it.
/// A machine that was suspended has not let its requests down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Now,
    /// Microseconds since the store began.
    pub(super) steady_us: u64,
}

#[derive(Default)]
pub(super) struct Shard {
    pub(super) accounts: HashMap<Arc<str>, Account>,
    /// Every record, by the moment at which it is due.
    due: BTreeSet<(u64, Arc<str>, [u8; 16])>,
    /// What was settled in this period, and in the one before.
    settled: [HashSet<[u8; 16]>; 2],
    /// When this period began.
    period_us: Option<u64>,
}

#[derive(Default)]
pub(super) struct Account {
    pub(super) scopes: HashMap<Arc<str>, Meters>,
    pub(super) leases: HashMap<[u8; 16], Record>,
    pub(super) touched_us: u64,
}

/// What one step of a sweep found.
pub(super) enum Swept {
    Nothing,
    /// A record that nobody asked for any more.
    Dropped,
    /// A lease ended; its event.
    Ended(Entry),
}

// === impl Shard ===

impl Shard {
    pub(super) fn admit(&mut self, wanted: &Admission, at: Moment) -> Decision {
        let Moment { now, steady_us } = at;
        let lease = &wanted.lease;
        let account = self.accounts.entry(Arc::clone(&lease.account)).or_default();
        account.touched_us = steady_us;
        let known = account.leases.get(&lease.id).map(Record::granted);
        let mut scopes: Vec<Meters> = Vec::with_capacity(lease.scopes.len());
        let mut granted = Some(number(wanted.money));
        for scope in &lease.scopes {
            let meters = account.scopes.get(&scope.name).copied();
            let mut meters = meters.unwrap_or_else(|| Meters::at(now));
            meters.leak(&scope.limits, now);
            let grant = meters.grant(&scope.limits, wanted);
            granted = granted.zip(grant).map(|(all, one)| all.min(one));
            scopes.push(meters);
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
            for (scope, meters) in lease.scopes.iter().zip(&mut scopes) {
                meters.charge(&scope.limits, &change);
                meters.hold(&change);
                account.scopes.insert(Arc::clone(&scope.name), *meters);
            }
            let record = Record::new(wanted, outcome.money, steady_us);
            let due = (record.due_us, Arc::clone(&lease.account), lease.id);
            self.due.insert(due);
            account.leases.insert(lease.id, record);
        }
        let mut readings = Vec::new();
        for (scope, meters) in lease.scopes.iter().zip(&scopes) {
            meters.readings(&scope.limits, wanted, outcome, now, &mut readings);
        }
        Decision {
            admitted: outcome.admitted,
            money: whole(outcome.money),
            readings,
        }
    }

    pub(super) fn raise(&mut self, wanted: &Admission, at: Moment) -> Option<Decision> {
        let (lease, now) = (&wanted.lease, at.now);
        let account = self.accounts.get_mut(&lease.account)?;
        let record = account.leases.get_mut(&lease.id)?;
        let own = Change {
            held_money: -record.held_money()?,
            ..Change::default()
        };
        let mut scopes: Vec<Meters> = Vec::with_capacity(lease.scopes.len());
        let mut granted = number(wanted.money);
        for scope in &lease.scopes {
            let meters = account.scopes.get(&scope.name).copied();
            let mut meters = meters.unwrap_or_else(|| Meters::at(now));
            meters.leak(&scope.limits, now);
            meters.hold(&own);
            granted = granted.min(meters.money_left(&scope.limits));
            scopes.push(meters);
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
            for (scope, meters) in lease.scopes.iter().zip(&mut scopes) {
                meters.hold(&change);
                account.scopes.insert(Arc::clone(&scope.name), *meters);
            }
        }
        let mut readings = Vec::new();
        for (scope, meters) in lease.scopes.iter().zip(&scopes) {
            meters.readings(&scope.limits, wanted, outcome, now, &mut readings);
        }
        Some(Decision {
            admitted,
            money: whole(outcome.money),
            readings,
        })
    }

    pub(super) fn refuse(&mut self, wanted: &Admission, at: Moment) -> Decision {
        let (lease, now) = (&wanted.lease, at.now);
        let account = self.accounts.entry(Arc::clone(&lease.account)).or_default();
        account.touched_us = at.steady_us;
        let mut scopes: Vec<Meters> = Vec::with_capacity(lease.scopes.len());
        let mut admitted = true;
        for scope in &lease.scopes {
            let meters = account.scopes.get(&scope.name).copied();
            let mut meters = meters.unwrap_or_else(|| Meters::at(now));
            meters.leak(&scope.limits, now);
            admitted = admitted && meters.allows_refusal(&scope.limits);
            scopes.push(meters);
        }
        let admitted = admitted || wanted.shadow;
        if admitted {
            let change = Change {
                requests: 1.0,
                ..Change::default()
            };
            for (scope, meters) in lease.scopes.iter().zip(&mut scopes) {
                meters.charge(&scope.limits, &change);
                account.scopes.insert(Arc::clone(&scope.name), *meters);
            }
        }
        let outcome = Outcome {
            admitted,
            money: 0.0,
        };
        let mut readings = Vec::new();
        for (scope, meters) in lease.scopes.iter().zip(&scopes) {
            meters.readings(&scope.limits, wanted, outcome, now, &mut readings);
        }
        Decision {
            admitted,
            money: 0,
            readings,
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
        self.due
            .remove(&(before, Arc::clone(&lease.account), lease.id));
        self.due.insert((due, Arc::clone(&lease.account), lease.id));
        self.apply(lease, &change, at);
        self.hold(&lease.account, &holders, &change);
        if revived {
            Progressed::Revived
        } else {
            Progressed::Renewed
        }
    }

    /// Ends a lease, or charges a request `anyway` that has none.
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
                let due = (record.due_us, Arc::clone(&lease.account), lease.id);
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
        let account = self.accounts.entry(Arc::clone(&lease.account)).or_default();
        account.touched_us = steady_us;
        for scope in &lease.scopes {
            let meters = account.scopes.entry(Arc::clone(&scope.name));
            let meters = meters.or_insert_with(|| Meters::at(now));
            meters.leak(&scope.limits, now);
            meters.charge(&scope.limits, change);
        }
    }

    /// What a lease holds, its own record's scopes hold: another plan may be in force by now.
    fn hold(&mut self, account: &str, scopes: &[Arc<str>], change: &Change) {
        let Some(account) = self.accounts.get_mut(account) else {
            return;
        };
        for scope in scopes {
            if let Some(meters) = account.scopes.get_mut(scope) {
                meters.hold(change);
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

    /// Forgets what nobody can ask for any more.
    pub(super) fn forget(&mut self, now_us: u64) {
        // Since the last turn, not by the clock: what was settled just before a turn is kept for a
        // whole period after it.
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
