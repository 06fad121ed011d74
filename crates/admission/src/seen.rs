//! The last statuses that the store reported, so that a router does not start from zero when it loses the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use inferyard_domain::Account;
use parking_lot::Mutex;

use super::clock::{micros, month};
use super::store::{Lease, LimitStatus, Scope};
use crate::kind::LimitKind;
use crate::kind::by_kind;

/// Scopes of accounts that are remembered at most; the most recent half of them is always kept.
const SCOPES: usize = 10_000;
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The last statuses by account and scope, in two generations; the older one is dropped as a whole.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Generations>);

type ByScope = HashMap<(Account, Arc<str>), Sight>;

#[derive(Debug, Default)]
struct Generations {
    young: ByScope,
    old: ByScope,
}

#[derive(Debug, Clone)]
struct Sight {
    at_us: u64,
    /// The statuses of all scopes of the request.
    statuses: Arc<[LimitStatus]>,
    /// The range of this scope within them.
    from: usize,
    to: usize,
}

// === impl Seen ===

impl Seen {
    /// Remembers the statuses of a request.
    pub(super) fn remember(&self, lease: &Lease, statuses: &Arc<[LimitStatus]>, now_us: u64) {
        let mut from = 0;
        let mut generations = self.lock();
        for scope in &lease.scopes {
            let exist = by_kind(&scope.limits).into_iter();
            let to = from + exist.filter(|(_, limit)| limit.is_some()).count();
            if to > statuses.len() {
                return;
            }
            let sight = Sight {
                at_us: now_us,
                statuses: Arc::clone(statuses),
                from,
                to,
            };
            if from < to {
                let key = (lease.account.clone(), Arc::clone(&scope.name));
                generations.insert(key, sight);
            }
            from = to;
        }
    }

    /// The estimated usage of a request's limits now, in the order in which a store reports them. Concurrent requests
    /// are taken as 0, because the ends of those admitted elsewhere are not reported here.
    pub(super) fn recall(&self, lease: &Lease, now_us: u64) -> Vec<LimitStatus> {
        let generations = self.lock();
        let scopes = lease.scopes.iter();
        let statuses = scopes.flat_map(|scope| {
            let key = (lease.account.clone(), Arc::clone(&scope.name));
            recall(generations.get(&key), scope, now_us)
        });
        statuses.collect()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Generations> {
        self.0.lock()
    }
}

fn recall(sight: Option<&Sight>, scope: &Scope, now_us: u64) -> Vec<LimitStatus> {
    let exist = by_kind(&scope.limits).into_iter();
    let exist = exist.filter_map(|(kind, limit)| Some((kind, limit?.get())));
    let recalled = exist.map(|(kind, limit)| {
        let known = sight.and_then(|sight| {
            let mut statuses = sight.statuses[sight.from..sight.to].iter();
            let status = statuses.find(|status| status.kind == kind)?;
            Some(leaked(status, sight.at_us, now_us))
        });
        LimitStatus {
            kind,
            limit,
            used: known.unwrap_or(0),
            requested: 0,
            reset: Duration::ZERO,
            denial: None,
        }
    });
    recalled.collect()
}

/// The usage left after the time that has passed.
fn leaked(status: &LimitStatus, then_us: u64, now_us: u64) -> u64 {
    let window = match status.kind {
        LimitKind::RequestsPerMinute | LimitKind::TokensPerMinute => MINUTE,
        LimitKind::RequestsPerDay | LimitKind::TokensPerDay => DAY,
        LimitKind::RequestsTotal => return status.used,
        LimitKind::BudgetPerMonth if month(then_us) == month(now_us) => return status.used,
        LimitKind::BudgetPerMonth | LimitKind::ConcurrentRequests => return 0,
    };
    let passed = u128::from(now_us.saturating_sub(then_us));
    let gone = passed * u128::from(status.limit) / u128::from(micros(window));
    let gone = u64::try_from(gone).unwrap_or(u64::MAX);
    status.used.saturating_sub(gone)
}

// === impl Generations ===

impl Generations {
    fn insert(&mut self, key: (Account, Arc<str>), sight: Sight) {
        self.young.insert(key, sight);
        if self.young.len() >= SCOPES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn get(&self, key: &(Account, Arc<str>)) -> Option<&Sight> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use inferyard_catalog::Limits;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn lease(account: &str) -> Lease {
        let number = NonZeroU64::new;
        let scope = |name: &str, limits| Scope {
            name: name.into(),
            limits,
        };
        let plan = Limits {
            requests_per_minute: number(60),
            requests_total: number(500),
            concurrent_requests: number(9),
            ..Limits::default()
        };
        let key = Limits {
            tokens_per_minute: number(600),
            ..Limits::default()
        };
        Lease {
            id: [0; 16],
            account: account.into(),
            scopes: vec![scope("plan:p", plan), scope("key:k", key)],
            lifetime: Duration::from_secs(30),
        }
    }

    fn statuses(lease: &Lease, used: &[u64]) -> Arc<[LimitStatus]> {
        let levels = lease.scopes.iter().flat_map(|scope| by_kind(&scope.limits));
        let levels = levels.filter_map(|(kind, limit)| Some((kind, limit?.get())));
        let statuses = levels.zip(used).map(|((kind, limit), used)| LimitStatus {
            kind,
            limit,
            used: *used,
            requested: 1,
            reset: Duration::ZERO,
            denial: None,
        });
        statuses.collect()
    }

    fn used(seen: &Seen, lease: &Lease, now_us: u64) -> Vec<u64> {
        let statuses = seen.recall(lease, now_us);
        statuses.iter().map(|status| status.used).collect()
    }

    #[test]
    fn levels_leak_while_nobody_looks_and_totals_stay() {
        let (seen, lease) = (Seen::default(), lease("acme"));
        seen.remember(&lease, &statuses(&lease, &[30, 7, 3, 600]), SECOND);
        assert_eq!(used(&seen, &lease, SECOND), [30, 7, 0, 600]);
        assert_eq!(used(&seen, &lease, 11 * SECOND), [20, 7, 0, 500]);
        assert_eq!(used(&seen, &lease, 99 * SECOND), [0, 7, 0, 0]);
    }

    #[test]
    fn the_last_word_counts_and_strangers_begin_at_nothing() {
        let (seen, lease) = (Seen::default(), lease("acme"));
        assert_eq!(used(&seen, &lease, 0), [0, 0, 0, 0]);
        seen.remember(&lease, &statuses(&lease, &[30, 7, 3, 600]), 0);
        seen.remember(&lease, &statuses(&lease, &[1, 8, 1, 2]), 0);
        assert_eq!(used(&seen, &lease, 0), [1, 8, 0, 2]);
    }

    #[test]
    fn only_so_many_accounts_are_remembered() {
        let seen = Seen::default();
        for number in 0..3 * SCOPES {
            let lease = lease(&number.to_string());
            seen.remember(&lease, &statuses(&lease, &[0, 7, 0, 0]), 0);
        }
        let generations = seen.lock();
        assert!(generations.young.len() + generations.old.len() <= SCOPES);
        drop(generations);
        let last = lease(&(3 * SCOPES - 1).to_string());
        assert_eq!(used(&seen, &last, 0)[1], 7);
        assert_eq!(used(&seen, &lease("0"), 0)[1], 0);
    }
}
