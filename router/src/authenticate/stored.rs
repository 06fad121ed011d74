//! Keys of the key store: cached for seconds, with one look-up per key at a time.

use std::collections::HashMap;
use std::sync::Arc;

use inferyard_keys::{KeyStore, StoreError, StoredKey};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::cache::{Cache, Look};
use super::known::Known;
use inferyard_catalog::KeyHash;

/// The keys of a key store, behind a cache.
pub(crate) struct StoredKeys {
    shared: Arc<Shared>,
    /// Look-ups run as tasks, so that they finish even if the client that started one disconnects. Each has a
    /// timeout.
    lookups: TaskTracker,
}

struct Shared {
    store: KeyStore,
    memory: Mutex<Memory>,
}

struct Memory {
    cache: Cache,
    /// Running look-ups by hash; requests for the same key wait for the same look-up.
    flights: HashMap<KeyHash, Flight>,
    /// Whether the last look-up failed. Only a change writes a log line.
    away: bool,
}

type Flight = watch::Receiver<Option<Answer>>;
type Answer = Result<Option<Arc<Known>>, Away>;

/// The key store did not answer, and no cached answer can be used.
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

    /// Finds the key with this hash. While the store answers, the result is at most a few seconds old.
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

    /// Joins the running look-up of this key, or starts one.
    fn ask(&self, memory: &mut Memory, hash: KeyHash, now: Instant) -> Flight {
        if let Some(flight) = memory.flights.get(&hash) {
            return flight.clone();
        }
        let (answer, flight) = watch::channel(None);
        memory.flights.insert(hash, flight.clone());
        let shared = Arc::clone(&self.shared);
        self.lookups.spawn(async move {
            let found = shared.store.find(&hash).await;
            // Every receiver may have gone: then the answer is only cached.
            let _nobody = answer.send(Some(shared.learn(hash, found, now)));
        });
        flight
    }

    /// Waits for running look-ups to end.
    pub(crate) async fn stop(&self) {
        self.lookups.close();
        self.lookups.wait().await;
    }
}

// === impl Shared ===

impl Shared {
    /// No code that holds the lock can panic halfway through a change, so a poisoned lock is used as it is.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }

    fn learn(
        &self,
        hash: KeyHash,
        found: Result<Option<StoredKey>, StoreError>,
        asked: Instant,
    ) -> Answer {
        let mut memory = self.memory();
        memory.flights.remove(&hash);
        // An entry that cannot be decoded does not mean that the store is away.
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
