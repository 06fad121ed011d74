//! Why a request may not go on.

use std::sync::Arc;
use std::time::Duration;

use inferyard_admission::{NoRoom, Reading};

/// The request may not go on, or not now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReserveError {
    /// A limit of the plan or of the key is reached.
    #[error("a limit is reached")]
    Denied {
        /// What was to be used.
        model: Arc<str>,
        /// Whose limit it is.
        account: Arc<str>,
        /// Every limit; those that deny say so.
        readings: Arc<[Reading]>,
    },
    /// A visitor has used what there is without a key.
    #[error("the visitor's preview is used up")]
    PreviewExhausted {
        /// How many requests that were.
        limit: u64,
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
        /// Every limit.
        readings: Arc<[Reading]>,
    },
    /// Too many requests of a visitor were refused for their own fault.
    #[error("{most} requests of the visitor were refused")]
    TurnedAway {
        /// How many those are.
        most: u32,
        /// When requests are looked at again.
        retry_after: Duration,
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
    },
    /// All visitors together have used what there is without a key.
    #[error("the preview's tokens of today are used up")]
    PoolExhausted {
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
        /// How long it is until there are tokens again.
        tomorrow: Duration,
    },
    /// What the request uses could not be recorded.
    #[error("usage cannot be recorded")]
    NoRoom {
        /// Why.
        #[source]
        why: NoRoom,
        /// When to try again.
        retry_after: Duration,
    },
    /// What the store of limits keeps of the account is damaged.
    #[error("the limits of the account are damaged")]
    Damaged {
        /// Whose they are.
        account: Arc<str>,
    },
    /// The limits cannot be known now, and the plan does not go on without.
    #[error("the limits cannot be known now")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}
