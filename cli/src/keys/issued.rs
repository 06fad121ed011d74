//! A key as a key store has issued it.

use inferyard_keys::StoredKey;

/// A key, and its new text.
pub(super) struct Issued {
    pub(super) key: StoredKey,
    pub(super) text: String,
}

// === impl Issued ===

impl From<inferyard_keys::Issued> for Issued {
    fn from(issued: inferyard_keys::Issued) -> Self {
        Self {
            text: issued.text.reveal().to_owned(),
            key: issued.key,
        }
    }
}
