//! API keys: their text, their hash, and the store that holds a million of them.

mod hash;
mod text;
mod dollars;
mod wanted;
mod store;

pub use dollars::{dollars, nanodollars};
pub use hash::KeyHash;
pub use inferyard_proto::keys::v1::{KeyLimits, StoredKey};
pub use store::{
    Issued, KeyStore, LONGEST_OVERLAP, LONGEST_PAGE, Page, ResolveError, RotateError, StoreError,
};
pub use text::KeyText;
pub use wanted::{FieldError, KeyFields, WantedKey};
