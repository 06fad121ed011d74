//! Keys of the key store: remembered for seconds, looked up once at a time.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferyard_keys::{KeyLimits, KeyStore, StoreError, StoredKey};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::cache::{Cache, Look};
use inferyard_catalog::{Catalog, Key, KeyHash, Limits};

/// The keys of a key store, as a router sees them.
pub(crate) struct StoredKeys {
    shared: Arc<Shared>,
    /// Look-ups outlive the client that was the first to wait for them; each is bounded in time.
    lookups: TaskTracker,
}

struct Shared {
    store: KeyStore,
    memory: Mutex<Memory>,
}

struct Memory {
    cache: Cache,
    /// Questions on their way; whoever wants the same answer waits for it.
    flights: HashMap<KeyHash, Flight>,
    /// The last question has failed. Its log line is not written again and again.
    away: bool,
}

type Flight = watch::Receiver<Option<Answer>>;
type Answer = Result<Option<Arc<Known>>, Away>;

/// The key store did not answer, and nothing is remembered that would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away;

/// A stored key, ready to become a [`Key`] of the catalog in force.
#[derive(Debug, PartialEq)]
pub(crate) struct Known {
    id: Arc<str>,
    account: Arc<str>,
    plan: Arc<str>,
    expires: Option<SystemTime>,
    disabled: bool,
    limits: Option<Limits>,
}

// === impl StoredKeys ===

impl StoredKeys {
    pub(crate) fn new(store: KeyStore) -> Self {
        let memory = Memory {
            cache: Cache::new(),
            flights: HashMap::new(),
            away: false,
        };
        let memory = Mutex::new(memory);
        Self {
            shared: Arc::new(Shared { store, memory }),
            lookups: TaskTracker::new(),
        }
    }

    /// The key of this hash, no older than a few seconds where the store answers.
    pub(crate) async fn find(&self, hash: KeyHash) -> Answer {
        let now = Instant::now();
        let (remembered, mut flight) = {
            let mut memory = self.shared.memory();
            match memory.cache.look(&hash, now) {
                Look::Fresh(found) => return Ok(found),
                Look::Aging(known) => {
                    self.ask(&mut memory, hash, now);
                    return Ok(Some(known));
                }
                Look::Ask(remembered) => (remembered, self.ask(&mut memory, hash, now)),
            }
        };
        let answer = flight.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| answer.clone());
        match answer.unwrap_or(Err(Away)) {
            Err(Away) => remembered.map(Some).ok_or(Away),
            found => found,
        }
    }

    /// Joins the question about this key, or asks it.
    fn ask(&self, memory: &mut Memory, hash: KeyHash, now: Instant) -> Flight {
        if let Some(flight) = memory.flights.get(&hash) {
            return flight.clone();
        }
        let (answer, flight) = watch::channel(None);
        memory.flights.insert(hash, flight.clone());
        let shared = Arc::clone(&self.shared);
        self.lookups.spawn(async move {
            let found = shared.store.find(&hash).await;
            // Nobody may be waiting any more.
            let _nobody = answer.send(Some(shared.learn(hash, found, now)));
        });
        flight
    }

    /// Waits for the questions that are on their way.
    pub(crate) async fn stop(&self) {
        self.lookups.close();
        self.lookups.wait().await;
    }
}

// === impl Shared ===

impl Shared {
    /// A holder cannot panic half-way through a change, so that a poisoned memory is as good.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(
        &self,
        hash: KeyHash,
        found: Result<Option<StoredKey>, StoreError>,
        asked: Instant,
    ) -> Answer {
        let mut memory = self.memory();
        memory.flights.remove(&hash);
        // One entry that cannot be read says nothing of the others.
        let is_away = !matches!(found, Ok(_) | Err(StoreError::Damaged));
        let was_away = std::mem::replace(&mut memory.away, is_away);
        match found {
            Ok(key) => {
                let known = key.map(|key| Arc::new(Known::of(key)));
                memory.cache.learn(hash, known.clone(), asked);
                if was_away {
                    tracing::info!("the key store answers again");
                }
                Ok(known)
            }
            Err(error) => {
                memory.cache.failed(&hash, Instant::now());
                if !is_away {
                    tracing::error!(%hash, %error, "a key cannot be looked up");
                } else if !was_away {
                    tracing::warn!(%error, "keys cannot be looked up");
                }
                Err(Away)
            }
        }
    }
}

// === impl Known ===

impl Known {
    pub(crate) fn of(key: StoredKey) -> Self {
        Self {
            // Names need not be unique in a store.
            id: key.id.into(),
            account: key.account.into(),
            plan: key.plan.into(),
            expires: key.expires.map(|end| UNIX_EPOCH + Duration::from_secs(end)),
            disabled: key.disabled,
            limits: key.limits.as_ref().map(limits),
        }
    }

    /// The key on its plan in this catalog; `None`: the catalog has no such plan.
    pub(crate) fn on(&self, catalog: &Catalog) -> Option<Key> {
        let plan = catalog.plans.get(&self.plan)?;
        Some(Key {
            name: Arc::clone(&self.id),
            account: Arc::clone(&self.account),
            plan: Arc::clone(plan),
            expires: self.expires,
            disabled: self.disabled,
            limits: self.limits,
        })
    }

    pub(crate) fn plan(&self) -> &str {
        &self.plan
    }
}

/// A limit of zero, which no writer of ours lets through, forbids as much as a limit can.
fn limits(limits: &KeyLimits) -> Limits {
    let limit = |number: Option<u64>| {
        number.map(|number| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    };
    Limits {
        requests_per_minute: limit(limits.requests_per_minute),
        requests_per_day: limit(limits.requests_per_day),
        requests_total: limit(limits.requests_total),
        tokens_per_minute: limit(limits.tokens_per_minute),
        tokens_per_day: limit(limits.tokens_per_day),
        concurrent_requests: limit(limits.concurrent_requests),
        budget_per_month: limit(limits.budget_nanodollars),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferyard_catalog::Plan;

    #[test]
    fn a_stored_key_is_on_the_plan_of_the_catalog_in_force() {
        let known = Known::of(StoredKey {
            id: "key_1".into(),
            name: "production".into(),
            account: "acme".into(),
            plan: "team".into(),
            expires: Some(100),
            limits: Some(KeyLimits {
                tokens_per_day: Some(7),
                ..KeyLimits::default()
            }),
            ..StoredKey::default()
        });
        let mut catalog = Catalog::default();
        assert_eq!(known.on(&catalog), None);
        let plan = Arc::new(Plan::unrestricted("team"));
        catalog.plans.insert("team".into(), Arc::clone(&plan));
        let expected = Key {
            name: "key_1".into(),
            account: "acme".into(),
            plan,
            expires: Some(UNIX_EPOCH + Duration::from_secs(100)),
            disabled: false,
            limits: Some(Limits {
                tokens_per_day: NonZeroU64::new(7),
                ..Limits::default()
            }),
        };
        assert_eq!(known.on(&catalog), Some(expected));
    }
}
