//! Tokens per day that all callers of a preview share, counted approximately: routers add up once a second.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

/// The pools, by the names of their plans.
#[derive(Debug, Default)]
pub(super) struct Pools(Mutex<HashMap<Arc<str>, Pool>>);

#[derive(Debug, Default, Clone, Copy)]
struct Pool {
    day: u64,
    /// What all routers had told when this one last asked.
    told: u64,
    /// What this router has used since.
    untold: u64,
}

/// What a router has to tell about a pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold {
    pub(super) name: Arc<str>,
    pub(super) day: u64,
    pub(super) tokens: u64,
}

// === impl Pools ===

impl Pools {
    pub(super) fn has_left(&self, name: &Arc<str>, limit: NonZeroU64, day: u64) -> bool {
        self.of(name, day, |pool| pool.told + pool.untold < limit.get())
    }

    pub(super) fn add(&self, name: &Arc<str>, tokens: u64, day: u64) {
        self.of(name, day, |pool| pool.untold += tokens);
    }

    /// What there is to tell, also where it is nothing: the answer says what others used.
    pub(super) fn untold(&self) -> Vec<Untold> {
        let pools = self.lock();
        let untold = pools.iter().map(|(name, pool)| Untold {
            name: Arc::clone(name),
            day: pool.day,
            tokens: pool.untold,
        });
        untold.collect()
    }

    /// The store has it; `total` is what all routers have told.
    pub(super) fn told(&self, what: &Untold, total: u64) {
        self.of(&what.name, what.day, |pool| {
            pool.told = total;
            pool.untold = pool.untold.saturating_sub(what.tokens);
        });
    }

    /// A pool of an earlier day is empty again; what belongs to one is no longer of interest.
    fn of<T: Default>(&self, name: &Arc<str>, day: u64, act: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pools = self.lock();
        let pool = pools.entry(Arc::clone(name)).or_default();
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Pool>> {
        let pools = self.0.lock();
        pools.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_counts_what_all_routers_use_until_the_day_ends() {
        let (pools, name) = (Pools::default(), Arc::from("preview"));
        let limit = NonZeroU64::new(100).unwrap();
        assert!(pools.has_left(&name, limit, 7));
        pools.add(&name, 60, 7);
        let untold = pools.untold();
        let expected = Untold {
            name: Arc::clone(&name),
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
