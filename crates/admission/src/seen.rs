//! What the store last said of accounts, so that a router that loses it does not begin from nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::clock::{micros, month};
use super::share::limits;
use super::store::{Lease, Meter, Reading, Scope};

/// The scopes of so many accounts at most are remembered, and of the last half of them for sure.
const SCOPES: usize = 10_000;
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The last readings by account and scope, those that were not heard of for long forgotten.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Generations>);

type ByScope = HashMap<(Arc<str>, Arc<str>), Sight>;

#[derive(Debug, Default)]
struct Generations {
    young: ByScope,
    old: ByScope,
}

#[derive(Debug, Clone)]
struct Sight {
    at_us: u64,
    /// Of all scopes of the request.
    readings: Arc<[Reading]>,
    /// Which of them are this scope's.
    from: usize,
    to: usize,
}

// === impl Seen ===

impl Seen {
    /// Remembers what was said to a request.
    pub(super) fn remember(&self, lease: &Lease, readings: &Arc<[Reading]>, now_us: u64) {
        let mut from = 0;
        let mut generations = self.lock();
        for scope in &lease.scopes {
            let exist = limits(&scope.limits).into_iter();
            let to = from + exist.filter(|(_, limit)| limit.is_some()).count();
            if to > readings.len() {
                return;
            }
            let sight = Sight {
                at_us: now_us,
                readings: Arc::clone(readings),
                from,
                to,
            };
            if from < to {
                let key = (Arc::clone(&lease.account), Arc::clone(&scope.name));
                generations.insert(key, sight);
            }
            from = to;
        }
    }

    /// What is probably used now of the limits of a request, in the order in which a store tells it.
    /// Requests that run elsewhere end unseen, so that none are counted as running.
    pub(super) fn recall(&self, lease: &Lease, now_us: u64) -> Vec<Reading> {
        let generations = self.lock();
        let scopes = lease.scopes.iter();
        let readings = scopes.flat_map(|scope| {
            let key = (Arc::clone(&lease.account), Arc::clone(&scope.name));
            recall(generations.get(&key), scope, now_us)
        });
        readings.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        let generations = self.0.lock();
        generations.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn recall(sight: Option<&Sight>, scope: &Scope, now_us: u64) -> Vec<Reading> {
    let exist = limits(&scope.limits).into_iter();
    let exist = exist.filter_map(|(meter, limit)| Some((meter, limit?.get())));
    let recalled = exist.map(|(meter, limit)| {
        let known = sight.and_then(|sight| {
            let mut readings = sight.readings[sight.from..sight.to].iter();
            let reading = readings.find(|reading| reading.meter == meter)?;
            Some(leaked(reading, sight.at_us, now_us))
        });
        Reading {
            meter,
            limit,
            used: known.unwrap_or(0),
            requested: 0,
            reset: Duration::ZERO,
            denial: None,
        }
    });
    recalled.collect()
}

/// What is left of a level after some time.
fn leaked(reading: &Reading, then_us: u64, now_us: u64) -> u64 {
    let window = match reading.meter {
        Meter::RequestsPerMinute | Meter::TokensPerMinute => MINUTE,
        Meter::RequestsPerDay | Meter::TokensPerDay => DAY,
        Meter::RequestsTotal => return reading.used,
        Meter::BudgetPerMonth if month(then_us) == month(now_us) => return reading.used,
        Meter::BudgetPerMonth | Meter::ConcurrentRequests => return 0,
    };
    let passed = u128::from(now_us.saturating_sub(then_us));
    let gone = passed * u128::from(reading.limit) / u128::from(micros(window));
    let gone = u64::try_from(gone).unwrap_or(u64::MAX);
    reading.used.saturating_sub(gone)
}

// === impl Generations ===

impl Generations {
    fn insert(&mut self, key: (Arc<str>, Arc<str>), sight: Sight) {
        self.young.insert(key, sight);
        if self.young.len() >= SCOPES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn get(&self, key: &(Arc<str>, Arc<str>)) -> Option<&Sight> {
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

    fn readings(lease: &Lease, used: &[u64]) -> Arc<[Reading]> {
        let meters = lease.scopes.iter().flat_map(|scope| limits(&scope.limits));
        let meters = meters.filter_map(|(meter, limit)| Some((meter, limit?.get())));
        let readings = meters.zip(used).map(|((meter, limit), used)| Reading {
            meter,
            limit,
            used: *used,
            requested: 1,
            reset: Duration::ZERO,
            denial: None,
        });
        readings.collect()
    }

    fn used(seen: &Seen, lease: &Lease, now_us: u64) -> Vec<u64> {
        let readings = seen.recall(lease, now_us);
        readings.iter().map(|reading| reading.used).collect()
    }

    #[test]
    fn levels_leak_while_nobody_looks_and_totals_stay() {
        let (seen, lease) = (Seen::default(), lease("acme"));
        seen.remember(&lease, &readings(&lease, &[30, 7, 3, 600]), SECOND);
        assert_eq!(used(&seen, &lease, SECOND), [30, 7, 0, 600]);
        assert_eq!(used(&seen, &lease, 11 * SECOND), [20, 7, 0, 500]);
        assert_eq!(used(&seen, &lease, 99 * SECOND), [0, 7, 0, 0]);
    }

    #[test]
    fn the_last_word_counts_and_strangers_begin_at_nothing() {
        let (seen, lease) = (Seen::default(), lease("acme"));
        assert_eq!(used(&seen, &lease, 0), [0, 0, 0, 0]);
        seen.remember(&lease, &readings(&lease, &[30, 7, 3, 600]), 0);
        seen.remember(&lease, &readings(&lease, &[1, 8, 1, 2]), 0);
        assert_eq!(used(&seen, &lease, 0), [1, 8, 0, 2]);
    }

    #[test]
    fn only_so_many_accounts_are_remembered() {
        let seen = Seen::default();
        for number in 0..3 * SCOPES {
            let lease = lease(&number.to_string());
            seen.remember(&lease, &readings(&lease, &[0, 7, 0, 0]), 0);
        }
        let generations = seen.lock();
        assert!(generations.young.len() + generations.old.len() <= SCOPES);
        drop(generations);
        let last = lease(&(3 * SCOPES - 1).to_string());
        assert_eq!(used(&seen, &last, 0)[1], 7);
        assert_eq!(used(&seen, &lease("0"), 0)[1], 0);
    }
}
