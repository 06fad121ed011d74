//! Caches answers of the key store, and defines how long each may be used.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::known::Known;
use inferyard_catalog::KeyHash;
use lru::LruCache;

/// Maximum number of cached keys.
const MOST_KNOWN: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Maximum number of cached hashes that are no key. They have a cache of their own, so that guesses evict no
/// key.
const MOST_UNKNOWN: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Age up to which a cached key is served without asking the store.
const FRESH: Duration = Duration::from_secs(2);
/// Age up to which a cached key is served while a look-up refreshes it. Together with the time of a look-up
/// this bounds how long a revoked key works to 5 s.
const USABLE: Duration = Duration::from_secs(4);
/// Age up to which a cached key is served while the store cannot be reached.
const TRUSTED: Duration = Duration::from_mins(10);
/// Age up to which an unknown hash is refused without asking the store.
const REFUSED: Duration = Duration::from_secs(1);
/// Time after a failed look-up during which no other look-up of the same key starts.
const PAUSE: Duration = Duration::from_secs(1);

/// Keys by hash, with their ages.
pub(super) struct Cache {
    known: LruCache<KeyHash, Entry>,
    unknown: LruCache<KeyHash, Instant>,
}

struct Entry {
    known: Arc<Known>,
    /// When the look-up started that returned this entry.
    asked: Instant,
    /// Set if the last look-up failed: when the next one may start.
    failed: Option<Instant>,
}

/// How to answer a request for a key.
#[derive(Debug, PartialEq)]
pub(super) enum Look {
    /// Use this answer; `None`: the key does not exist.
    Fresh(Option<Arc<Known>>),
    /// Use this answer, and start a look-up in the background.
    Aging(Arc<Known>),
    /// Wait for a look-up. If it fails, use this answer.
    Ask(Option<Arc<Known>>),
}

// === impl Cache ===

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            known: LruCache::new(MOST_KNOWN),
            unknown: LruCache::new(MOST_UNKNOWN),
        }
    }

    /// The map compares hashes in variable time. That can reveal how the hash of a guess differs from a stored
    /// hash, but does not help to find a key, because SHA-256 cannot be inverted.
    pub(super) fn look(&mut self, hash: &KeyHash, now: Instant) -> Look {
        if let Some(entry) = self.known.get_mut(hash) {
            return entry.look(now);
        }
        match self.unknown.get(hash) {
            Some(asked) if now.duration_since(*asked) < REFUSED => Look::Fresh(None),
            _ => Look::Ask(None),
        }
    }

    /// Stores the answer of a look-up that started at `asked`.
    pub(super) fn learn(&mut self, hash: KeyHash, found: Option<Arc<Known>>, asked: Instant) {
        if let Some(known) = found {
            let entry = Entry {
                known,
                asked,
                failed: None,
            };
            self.unknown.pop(&hash);
            self.known.put(hash, entry);
        } else {
            self.known.pop(&hash);
            self.unknown.put(hash, asked);
        }
    }

    /// Notes that a look-up failed.
    pub(super) fn failed(&mut self, hash: &KeyHash, now: Instant) {
        if let Some(entry) = self.known.get_mut(hash) {
            entry.failed = Some(now + PAUSE);
        }
    }
}

// === impl Entry ===

impl Entry {
    fn look(&self, now: Instant) -> Look {
        let known = Arc::clone(&self.known);
        let age = now.duration_since(self.asked);
        match self.failed {
            _ if age >= TRUSTED => Look::Ask(None),
            _ if age < FRESH => Look::Fresh(Some(known)),
            // The store has just failed: no request waits for it.
            Some(next) if now < next => Look::Fresh(Some(known)),
            Some(_) => Look::Aging(known),
            None if age < USABLE => Look::Aging(known),
            None => Look::Ask(Some(known)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Arc<Known> {
        Arc::new(Known::of(inferyard_keys::StoredKey {
            id: name.into(),
            ..Default::default()
        }))
    }

    #[test]
    fn a_key_grows_old() {
        let (start, hash, key) = (Instant::now(), KeyHash::of(b"k"), known("k"));
        let mut cache = Cache::new();
        assert_eq!(cache.look(&hash, start), Look::Ask(None));
        cache.learn(hash, Some(key.clone()), start);
        let fresh = Look::Fresh(Some(key.clone()));
        let table = [
            (0, fresh),
            (1_999, Look::Fresh(Some(key.clone()))),
            (2_000, Look::Aging(key.clone())),
            (3_999, Look::Aging(key.clone())),
            (4_000, Look::Ask(Some(key.clone()))),
            (599_999, Look::Ask(Some(key.clone()))),
            (600_000, Look::Ask(None)),
        ];
        for (age, expected) in table {
            let now = start + Duration::from_millis(age);
            assert_eq!(cache.look(&hash, now), expected, "{age}");
        }
    }

    #[test]
    fn a_key_stays_good_for_a_while_where_the_store_is_away() {
        let (start, hash, key) = (Instant::now(), KeyHash::of(b"k"), known("k"));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::new();
        cache.learn(hash, Some(key.clone()), start);
        cache.failed(&hash, at(5));
        assert_eq!(cache.look(&hash, at(5)), Look::Fresh(Some(key.clone())));
        assert_eq!(cache.look(&hash, at(6)), Look::Aging(key.clone()));
        assert_eq!(cache.look(&hash, at(600)), Look::Ask(None));
        cache.learn(hash, Some(key.clone()), at(601));
        assert_eq!(cache.look(&hash, at(605)), Look::Ask(Some(key)));
    }

    #[test]
    fn what_is_no_key_is_refused_for_a_second_and_then_asked_again() {
        let (start, hash) = (Instant::now(), KeyHash::of(b"k"));
        let mut cache = Cache::new();
        cache.learn(hash, Some(known("k")), start);
        cache.learn(hash, None, start);
        assert_eq!(cache.look(&hash, start), Look::Fresh(None));
        assert_eq!(cache.look(&hash, start + REFUSED), Look::Ask(None));
        cache.failed(&hash, start);
        let key = known("k");
        cache.learn(hash, Some(key.clone()), start);
        assert_eq!(cache.look(&hash, start), Look::Fresh(Some(key)));
    }

    #[test]
    fn a_flood_of_guesses_pushes_no_key_out() {
        let (now, hash, key) = (Instant::now(), KeyHash::of(b"k"), known("k"));
        let mut cache = Cache::new();
        cache.learn(hash, Some(key.clone()), now);
        for guess in 0..2 * u32::try_from(MOST_UNKNOWN.get()).unwrap() {
            cache.learn(KeyHash::of(&guess.to_be_bytes()), None, now);
        }
        assert_eq!(cache.look(&hash, now), Look::Fresh(Some(key)));
        assert_eq!(cache.look(&KeyHash::of(&[0; 4]), now), Look::Ask(None));
    }
}
