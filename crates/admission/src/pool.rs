//! Tokens per day that all callers of a preview share. Approximate: routers exchange their sums once a second.

use std::collections::HashMap;
use std::num::NonZeroU64;

use inferyard_domain::PlanName;
use parking_lot::Mutex;

/// The pools, by the names of their plans.
#[derive(Debug, Default)]
pub(super) struct Pools(Mutex<HashMap<PlanName, Pool>>);

#[derive(Debug, Default, Clone, Copy)]
struct Pool {
    day: u64,
    /// The sum over all routers at the last exchange.
    told: u64,
    /// Tokens that this router has used since.
    untold: u64,
}

/// Usage of a pool that other routers do not know yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold {
    pub(super) name: PlanName,
    pub(super) day: u64,
    pub(super) tokens: u64,
}

// === impl Pools ===

impl Pools {
    pub(super) fn has_left(&self, name: &PlanName, limit: NonZeroU64, day: u64) -> bool {
        self.of(name, day, |pool| pool.told + pool.untold < limit.get())
    }

    pub(super) fn add(&self, name: &PlanName, tokens: u64, day: u64) {
        self.of(name, day, |pool| pool.untold += tokens);
    }

    /// The usage to report for every pool, even if 0: the answer contains what other routers used.
    pub(super) fn untold(&self) -> Vec<Untold> {
        let pools = self.lock();
        let untold = pools.iter().map(|(name, pool)| Untold {
            name: name.clone(),
            day: pool.day,
            tokens: pool.untold,
        });
        untold.collect()
    }

    /// Records that the store has counted `what`; `total` is the sum over all routers.
    pub(super) fn told(&self, what: &Untold, total: u64) {
        self.of(&what.name, what.day, |pool| {
            pool.told = total;
            pool.untold = pool.untold.saturating_sub(what.tokens);
        });
    }

    /// Applies `act` to the pool of `day`. A pool of an earlier day is reset first; for a day that has passed, `act`
    /// is skipped.
    fn of<T: Default>(&self, name: &PlanName, day: u64, act: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pools = self.lock();
        let pool = pools.entry(name.clone()).or_default();
        if pool.day < day {
            *pool = Pool {
                day,
                ..Pool::default()
            };
        }
        if pool.day == day {
            act(pool)
        } else {
            T::default()
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<PlanName, Pool>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_counts_what_all_routers_use_until_the_day_ends() {
        let (pools, name) = (Pools::default(), PlanName::from("preview"));
        let limit = NonZeroU64::new(100).unwrap();
        assert!(pools.has_left(&name, limit, 7));
        pools.add(&name, 60, 7);
        let untold = pools.untold();
        let expected = Untold {
            name: name.clone(),
            day: 7,
            tokens: 60,
        };
        assert_eq!(untold, [expected]);
        pools.add(&name, 10, 7);
        assert!(pools.has_left(&name, limit, 7));
        pools.told(&untold[0], 90);
        assert!(!pools.has_left(&name, limit, 7), "90 of all, and 10 since");
        assert_eq!(pools.untold()[0].tokens, 10);
        assert!(pools.has_left(&name, limit, 8));
        pools.told(&untold[0], 500);
        assert!(pools.has_left(&name, limit, 8), "that was yesterday");
    }
}
