//! The interface of a store of limits: every operation on a request is one atomic call.

use inferyard_domain::Account;

use crate::kind::LimitKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use inferyard_catalog::Limits;

/// A store of levels and leases. There are two with the same behaviour: in Redis and in memory.
///
/// Every call is idempotent: after a failure with unknown effect it may be repeated, and then changes nothing and
/// returns the same.
pub(crate) trait Store: Send + Sync + 'static {
    /// Admits a request against all levels of its scopes, or changes none. Charges the request; holds tokens, money
    /// and concurrency under the lease.
    fn admit(
        &self,
        admission: &Admission,
    ) -> impl Future<Output = Result<AdmissionDecision, StoreError>> + Send;

    /// Changes the money that a lease holds to `money`, or to the rest of the budgets if that is less but at least
    /// `least_money`; otherwise changes nothing. Of the statuses only those of budgets are valid; if not admitted,
    /// they exclude what the lease holds. `None`: the lease does not exist.
    fn raise(
        &self,
        admission: &Admission,
    ) -> impl Future<Output = Result<Option<AdmissionDecision>, StoreError>> + Send;

    /// Counts a request that was refused before anything was held: per minute only. Denies it if it exceeds the
    /// requests of that minute or the concurrent requests; of the statuses only these two are valid.
    fn refuse(
        &self,
        admission: &Admission,
    ) -> impl Future<Output = Result<AdmissionDecision, StoreError>> + Send;

    /// Moves used amounts from held to charged, sets what stays held, and renews the lease. An expired lease holds
    /// again what it needs ([`Progressed::Revived`]).
    fn progress(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> impl Future<Output = Result<Progressed, StoreError>> + Send;

    /// Ends a lease: releases what it holds, charges what was used, and writes its usage event to the outbox. Ignores
    /// `used.held_*`.
    fn settle(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Charges a request that this store did not admit, and writes its usage event to the outbox. `used.event` is the
    /// complete event.
    fn charge(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Ends expired leases, within the bounds of one call: releases what they hold, and writes their usage events
    /// from the last report. Returns how many ended.
    fn sweep(&self) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// Identifies a request and its scopes.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The 128 random bits of the request id.
    pub(crate) id: [u8; 16],
    /// The account of the levels. All its keys are in one hash slot of a Redis Cluster.
    pub(crate) account: Account,
    /// The scopes that bind the request: the plan's, and the key's if it has its own limits.
    pub(crate) scopes: Vec<Scope>,
    /// How long after its last renewal it expires.
    pub(crate) lifetime: Duration,
}

/// A set of limits that is counted together.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// `plan:<name>` or `key:<name>`, within the account.
    pub(crate) name: Arc<str>,
    /// The limits in force.
    pub(crate) limits: Limits,
}

/// A request to admit.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) lease: Lease,
    /// Tokens to hold.
    pub(crate) tokens: u64,
    /// Nano-dollars to hold.
    pub(crate) money: u64,
    /// Nano-dollars below which the request is denied. If less than `money` is left of a budget, but at least this
    /// much, the rest is held.
    pub(crate) least_money: u64,
    /// Shadow mode: count, but deny nothing.
    pub(crate) shadow: bool,
    /// Start of the calendar month and of the next one, in microseconds since the Unix epoch.
    pub(crate) month: (u64, u64),
    /// The first piece of the usage event.
    pub(crate) event: Bytes,
}

/// The usage of a request so far. Totals, so that repeated or reordered reports do no harm.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Tokens of prompt and answer.
    pub tokens: u64,
    /// Nano-dollars.
    pub money: u64,
    /// Tokens that may still be used, to be held.
    pub held_tokens: u64,
    /// Nano-dollars that may still be used, to be held.
    pub held_money: u64,
    /// `settle` and `charge`: the request was refused, so it counts per minute only; all other charges are given
    /// back.
    pub refused: bool,
    /// `progress`: the second piece of the usage event. `settle` and `charge`: the complete event.
    pub event: Bytes,
}

/// The decision of the store about a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdmissionDecision {
    /// Whether it is admitted. In shadow mode always, whatever the statuses say.
    pub(crate) admitted: bool,
    /// Nano-dollars that are held for it.
    pub(crate) money: u64,
    /// Every limit that is set, in the order of the scopes; if admitted, after the charge.
    pub(crate) statuses: Vec<LimitStatus>,
}

/// A limit and its usage.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitStatus {
    /// The kind of the limit.
    pub kind: LimitKind,
    /// The limit itself.
    pub limit: u64,
    /// Charged and held, rounded up; above the limit if estimates were too low.
    pub used: u64,
    /// The amount that the request asked for.
    pub requested: u64,
    /// Time until it is unused, apart from what other requests hold.
    pub reset: Duration,
    /// Set if it denies the request: how long to wait.
    pub denial: Option<Wait>,
}

/// How long a denial lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// After this time the same request is admitted, unless others come first.
    Exactly(Duration),
    /// Until other requests end.
    ForOthers,
    /// Never: the request exceeds the limit, or the total is used up.
    ForEver,
}

/// The result of `progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progressed {
    /// The lease is renewed.
    Renewed,
    /// The lease had expired and was billed; it is held again.
    Revived,
    /// The request has ended already.
    Ended,
    /// The store does not know the lease, or has lost it.
    Unknown,
}

/// The result of `settle` or `charge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Charged, and the event is written.
    Done,
    /// Charged before; nothing was changed.
    Already,
    /// `settle` only: the store does not know the lease, or has lost it. Nothing was charged: use
    /// `charge`.
    Unknown,
}

/// The store gave no valid answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// No connection, or it broke; the call may or may not have taken effect.
    #[error("the store of limits cannot be reached: {message}")]
    Unreachable {
        /// For the log.
        message: String,
    },
    /// Timeout; the call may or may not have taken effect.
    #[error("the store of limits did not answer within {after:?}")]
    TooSlow {
        /// The timeout.
        after: Duration,
    },
    /// The store cannot serve any request now: out of memory, no permission, still loading.
    #[error("the store of limits failed: {message}")]
    Failed {
        /// For the log.
        message: String,
    },
    /// The data of one account has a wrong type or form. Other accounts are served.
    #[error("the store of limits refuses an account: {message} (key {key})")]
    Refused {
        /// The Redis key to inspect.
        key: String,
        /// For the log.
        message: String,
    },
}
