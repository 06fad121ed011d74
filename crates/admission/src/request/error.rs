//! Why a request is not admitted.

use std::sync::Arc;
use std::time::Duration;

use inferyard_domain::Account;

use crate::backlog::NoRoom;
use crate::store::LimitStatus;

/// The request is denied, for now or for good.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// A limit of the plan or of the key is reached.
    #[error("a limit is reached")]
    Denied {
        /// The name of the model.
        model: Arc<str>,
        /// The account of the limits.
        account: Account,
        /// Every limit; those that deny it have a `denial`.
        statuses: Arc<[LimitStatus]>,
    },
    /// A caller without a key has used up its preview.
    #[error("the visitor's preview is used up")]
    PreviewExhausted {
        /// The total of requests in a preview.
        limit: u64,
        /// Where there are keys.
        sign_up: Option<Arc<str>>,
        /// Every limit.
        statuses: Arc<[LimitStatus]>,
    },
    /// Too many requests of a caller without a key were refused as invalid.
    #[error("{most} requests of the visitor were refused")]
    TurnedAway {
        /// The most that may be refused.
        most: u32,
        /// When its requests are handled again.
        retry_after: Duration,
        /// Where to get a key.
        sign_up: Option<Arc<str>>,
    },
    /// All callers without a key together have used up today's tokens.
    #[error("the preview's tokens of today are used up")]
    PoolExhausted {
        /// Where to get a key.
        sign_up: Option<Arc<str>>,
        /// Time until the pool is refilled.
        tomorrow: Duration,
    },
    /// The usage of the request could not be kept until it is stored.
    #[error("usage cannot be recorded")]
    NoRoom {
        /// Why not.
        #[source]
        why: NoRoom,
        /// When to retry.
        retry_after: Duration,
    },
    /// The store's data of the account is damaged.
    #[error("the limits of the account are damaged")]
    Damaged {
        /// The account.
        account: Account,
    },
    /// The store of limits cannot be reached, and the plan requires it.
    #[error("the limits cannot be known now")]
    Unavailable {
        /// When to retry.
        retry_after: Duration,
    },
}
