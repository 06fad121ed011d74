//! What the router remembers of the key store, and for how long it may.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::known::Known;
use inferyard_catalog::KeyHash;
use lru::LruCache;

/// Keys that exist.
const MOST_KNOWN: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Guesses and typing errors: they have a room of their own, so that they push no key out.
const MOST_UNKNOWN: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// So long a key is served without a question.
const FRESH: Duration = Duration::from_secs(2);
/// So long it is served while somebody asks. Together with an answer's time this bounds how long a
/// revoked key works: 5 s.
const USABLE: Duration = Duration::from_secs(4);
/// So long it is served while the store cannot be reached.
const TRUSTED: Duration = Duration::from_mins(10);
/// So long a text that is no key is refused without a question.
const REFUSED: Duration = Duration::from_secs(1);
/// So long nobody asks again about a key after a question has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Keys by hash, with their age.
pub(super) struct Cache {
    known: LruCache<KeyHash, Entry>,
    unknown: LruCache<KeyHash, Instant>,
}

struct Entry {
    known: Arc<Known>,
    /// When the question was asked that this answers.
    asked: Instant,
    /// The last question has failed: when the next one may be asked.
    failed: Option<Instant>,
}

/// What to do about a key.
#[derive(Debug, PartialEq)]
pub(super) enum Look {
    /// This is the answer; `None`: there is no such key.
    Fresh(Option<Arc<Known>>),
    /// This is the answer, and the store is to be asked meanwhile.
    Aging(Arc<Known>),
    /// The store must be asked first. Where it cannot be reached, this is the answer.
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

    /// The map's comparison may end early and so tell how a guess differs from a hash that is stored; that
    /// leads to no key, since no text is found for a hash.
    pub(super) fn look(&mut self, hash: &KeyHash, now: Instant) -> Look {
        if let Some(entry) = self.known.get_mut(hash) {
            return entry.look(now);
        }
        match self.unknown.get(hash) {
            Some(asked) if now.duration_since(*asked) < REFUSED => Look::Fresh(None),
            _ => Look::Ask(None),
        }
    }

    /// Takes the answer to a question that was asked at this moment.
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

    /// The store did not answer.
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
            // Nobody waits for a store that has just not answered.
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
