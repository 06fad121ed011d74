//! What the store keeps under a key's id: the truth from which the entries of its texts follow.

use inferyard_proto::keys::v1::StoredKey;
use prost::Message;

use super::StoreError;
use crate::KeyHash;

/// How long a key that is revoked or expired is still answered as such, in seconds.
pub(super) const REMEMBERED: u64 = 30 * 24 * 3600;

/// A key, and all its texts that may still be valid.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Counts the changes; a writer that saw an older one starts again.
    pub(super) revision: u64,
    pub(super) key: StoredKey,
    /// The current text first, and then those that a rotation has replaced.
    pub(super) texts: Vec<Text>,
}

/// A text of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) hash: KeyHash,
    /// Valid until then, in Unix seconds; `None`: as long as the key.
    pub(super) until: Option<u64>,
}

// === impl Record ===

impl Record {
    /// Reads the fields of a Redis hash: revision, key, texts.
    pub(super) fn read(
        fields: (Option<u64>, Option<Vec<u8>>, Option<String>),
    ) -> Result<Option<Self>, StoreError> {
        match fields {
            (Some(revision), Some(key), Some(texts)) => {
                let key = StoredKey::decode(&*key).map_err(|_| StoreError::Damaged)?;
                let texts = texts.lines().map(Text::read).collect::<Option<_>>();
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

    /// The texts as lines.
    pub(super) fn texts(&self) -> String {
        let lines = self.texts.iter().map(Text::to_string);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What routers find under the hash of this text.
    pub(super) fn entry(&self, text: &Text) -> StoredKey {
        StoredKey {
            expires: earliest(self.key.expires, text.until),
            ..self.key.clone()
        }
    }

    /// When the store may forget it, in Unix seconds; 0: never.
    pub(super) fn forget_at(&self, now: u64) -> u64 {
        forget_at(&self.key, now)
    }
}

/// When the store may forget a key or the entry of one of its texts; 0: never.
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

// === impl Text ===

impl Text {
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
impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            Some(until) => write!(f, "{} {until}", self.hash),
            None => write!(f, "{}", self.hash),
        }
    }
}
