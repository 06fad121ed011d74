//! Rotating and revoking a key.

use std::time::Duration;

use super::record::{KeyRecord, KeySecret};
use super::{Issued, KeyStore, StoreError, now};
use crate::KeyText;

/// The longest time for which a text stays valid beside the one that replaced it.
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(90 * 24);
/// How many texts a key may have at the same time.
const MOST_TEXTS: usize = 8;
/// How often a change starts again because another one came in between.
const TRIES: usize = 16;

/// Why a key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// No such id.
    #[error("there is no such key")]
    Unknown,
    /// It was revoked: a new text would be of no use.
    #[error("the key is revoked: create a new one")]
    Revoked,
    /// It is past its end: a new text would be of no use.
    #[error("the key has expired: create a new one")]
    Expired,
    /// Rotated again and again within the overlap.
    #[error(
        "{MOST_TEXTS} texts of this key are still valid: wait until one has ended, or revoke the key"
    )]
    TooManyTexts,
    /// The overlap is longer than [`LONGEST_OVERLAP`].
    #[error("the overlap must not be longer than {} days", LONGEST_OVERLAP.as_secs() / 86_400)]
    LongOverlap,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyStore {
    /// Gives a key a new text. It is valid as soon as this returns; those before it stay valid for
    /// the overlap.
    pub async fn rotate(&self, id: &str, overlap: Duration) -> Result<Issued, RotateError> {
        if overlap > LONGEST_OVERLAP {
            return Err(RotateError::LongOverlap);
        }
        for _ in 0..TRIES {
            let mut record = self.record(id).await?.ok_or(RotateError::Unknown)?;
            let text = record.rotate(overlap)?;
            if self.replace(record.revision - 1, &record).await? {
                self.index(&record.key).await?;
                self.publish(&record).await?;
                let key = record.key;
                return Ok(Issued { key, text });
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Ends a key and all its texts; `false`: there is no such key. A key that is revoked already
    /// is revoked again, which mends what a crash has left half done.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        for _ in 0..TRIES {
            let Some(mut record) = self.record(id).await? else {
                return Ok(false);
            };
            record.key.disabled = true;
            record.revision += 1;
            // First what routers see: no list calls a key revoked that still works.
            self.publish(&record).await?;
            if self.replace(record.revision - 1, &record).await? {
                self.unindex(&record.key).await?;
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
    }
}

// === impl KeyRecord ===

impl KeyRecord {
    /// The next revision, with a new text; those before it end after the overlap, or earlier.
    fn rotate(&mut self, overlap: Duration) -> Result<KeyText, RotateError> {
        let now = now();
        if self.key.disabled {
            return Err(RotateError::Revoked);
        }
        if self.key.expires.is_some_and(|end| end <= now) {
            return Err(RotateError::Expired);
        }
        self.texts
            .retain(|text| text.until.is_none_or(|until| until > now));
        if self.texts.len() >= MOST_TEXTS {
            return Err(RotateError::TooManyTexts);
        }
        let end = now + overlap.as_secs();
        for text in &mut self.texts {
            text.until = Some(text.until.map_or(end, |until| until.min(end)));
        }
        let text = KeyText::random();
        let hash = text.hash();
        self.texts.insert(0, KeySecret { hash, until: None });
        self.key.redacted = text.redacted();
        self.revision += 1;
        Ok(text)
    }
}
