//! The authoritative record of a key, stored under its id; the entries that routers read are derived from it.

use inferyard_proto::keys::v1::StoredKey;
use prost::Message;

use super::StoreError;
use crate::KeyHash;

/// How long a revoked or expired key stays in the store, so that requests with it get that reason, in seconds.
pub(super) const REMEMBERED: u64 = 30 * 24 * 3600;

/// A key, and all its secrets that may still be valid.
#[derive(Debug, Clone)]
pub(super) struct KeyRecord {
    /// Number of the last change, for compare-and-set: a writer that read an older one starts again.
    pub(super) revision: u64,
    pub(super) key: StoredKey,
    /// The current secret first, then those that a rotation has replaced.
    pub(super) texts: Vec<KeySecret>,
}

/// One secret of a key, of which only the hash is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeySecret {
    pub(super) hash: KeyHash,
    /// End of its validity, in Unix seconds; `None`: that of the key.
    pub(super) until: Option<u64>,
}

// === impl KeyRecord ===

impl KeyRecord {
    /// Reads the fields of a Redis hash: revision, key, texts.
    pub(super) fn read(
        fields: (Option<u64>, Option<Vec<u8>>, Option<String>),
    ) -> Result<Option<Self>, StoreError> {
        match fields {
            (Some(revision), Some(key), Some(texts)) => {
                let key = StoredKey::decode(&*key).map_err(|_| StoreError::Damaged)?;
                let texts = texts.lines().map(KeySecret::read).collect::<Option<_>>();
                let texts = texts.ok_or(StoreError::Damaged)?;
                Ok(Some(Self {
                    revision,
                    key,
                    texts,
                }))
            }
            _ => Ok(None),
        }
    }

    /// The secrets, one per line.
    pub(super) fn texts(&self) -> String {
        let lines = self.texts.iter().map(KeySecret::to_string);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The entry that routers read under the hash of this secret.
    pub(super) fn entry(&self, text: &KeySecret) -> StoredKey {
        StoredKey {
            expires: earliest(self.key.expires, text.until),
            ..self.key.clone()
        }
    }

    /// When the record expires in Redis, in Unix seconds; 0: never.
    pub(super) fn forget_at(&self, now: u64) -> u64 {
        forget_at(&self.key, now)
    }
}

/// When a record or an entry expires in Redis, in Unix seconds; 0: never.
pub(super) fn forget_at(key: &StoredKey, now: u64) -> u64 {
    let end = if key.disabled { Some(now) } else { key.expires };
    end.map_or(0, |end| end.saturating_add(REMEMBERED))
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

// === impl KeySecret ===

impl KeySecret {
    fn read(line: &str) -> Option<Self> {
        let (hash, until) = match line.split_once(' ') {
            Some((hash, until)) => (hash, Some(until.parse().ok()?)),
            None => (line, None),
        };
        let hash = KeyHash::parse(hash)?;
        Some(Self { hash, until })
    }
}

/// The hash in hexadecimal, and the end behind a space.
impl std::fmt::Display for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            Some(until) => write!(f, "{} {until}", self.hash),
            None => write!(f, "{}", self.hash),
        }
    }
}
