//! Keys of the key store: remembered for seconds, looked up once at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inferyard_keys::{KeyStore, StoreError, StoredKey};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::cache::{Cache, Look};
use super::known::Known;
use inferyard_catalog::KeyHash;

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
