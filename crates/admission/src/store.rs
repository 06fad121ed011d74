//! What a store of limits does: every decision of a request is one atomic call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use inferyard_catalog::Limits;

/// Where meters and leases are. Two stores do exactly the same: one in Redis, one in memory.
///
/// Every call may be repeated after a failure that left its outcome open: a repeated one changes
/// nothing and says the same.
pub(crate) trait Store: Send + Sync + 'static {
    /// Admits a request against all meters of its scopes, or touches none. Requests are charged;
    /// tokens, money and concurrency are held under the lease.
    fn admit(
        &self,
        admission: &Admission,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send;

    /// Changes how much money a lease holds to `money`, or to what is left of the budgets where that is less
    /// but at least `least_money`; else nothing is changed. Only what the readings say of budgets counts:
    /// they leave out what the lease holds where it is not admitted. `None`: there is no such lease.
    fn raise(
        &self,
        admission: &Admission,
    ) -> impl Future<Output = Result<Option<Decision>, StoreError>> + Send;

    /// Counts a request that was refused before anything was held for it: per minute, and nowhere else. Denies it
    /// where it has no place in that minute or beside the requests that run; only what the readings say of
    /// these two counts.
    fn refuse(
        &self,
        admission: &Admission,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send;

    /// Moves what was used from held to charged, sets what stays held, and renews the lease. A lease
    /// that had expired gets back what it needs (`Progressed::Revived`).
    fn progress(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> impl Future<Output = Result<Progressed, StoreError>> + Send;

    /// Ends a lease: what it holds is free, what was used is charged, and its usage event is in the
    /// outbox. `used.held_*` are ignored.
    fn settle(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Charges a request that this store never admitted, and puts its whole usage event (`used.event`
    /// is the complete one) into the outbox.
    fn charge(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Ends leases that have expired, as far as one bounded call goes: what they hold is free, and
    /// their usage events are written from what they last told. Returns how many ended.
    fn sweep(&self) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

/// Which request holds what.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// The 128 random bits of the request id.
    pub(crate) id: [u8; 16],
    /// Whose meters they are. All of them are in one slot of a cluster.
    pub(crate) account: Arc<str>,
    /// The sets of limits that bind it: the plan's, and the key's where it has its own.
    pub(crate) scopes: Vec<Scope>,
    /// It expires so long after its last sign of life.
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

/// A request that wants in.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) lease: Lease,
    /// Tokens to hold.
    pub(crate) tokens: u64,
    /// Nano-dollars to hold.
    pub(crate) money: u64,
    /// The fewest nano-dollars that are of use: where less than `money` is left of a budget, but at
    /// least this much, all that is left is held.
    pub(crate) least_money: u64,
    /// Count, but deny nothing.
    pub(crate) shadow: bool,
    /// First and last moment of the calendar month, in microseconds since the Unix epoch.
    pub(crate) month: (u64, u64),
    /// The first piece of the usage event.
    pub(crate) event: Bytes,
}

/// How far a request is. Totals since its beginning, so that a repeated or late message does no harm.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Tokens of prompt and answer.
    pub tokens: u64,
    /// Nano-dollars.
    pub money: u64,
    /// Tokens that may still come, to be held.
    pub held_tokens: u64,
    /// Nano-dollars that may still come, to be held.
    pub held_money: u64,
    /// `settle` and `charge`: it was refused, so that it counts per minute and is given back per day and in
    /// total, with all that was charged.
    pub refused: bool,
    /// `progress`: the second piece of the usage event. `settle` and `charge`: all three.
    pub event: Bytes,
}

/// What the meters say to a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    /// Whether it is in. In shadow mode it is, whatever the readings say.
    pub(crate) admitted: bool,
    /// Nano-dollars that were held for it.
    pub(crate) money: u64,
    /// Every limit that exists, in the order of the scopes; after the charge where it was admitted.
    pub(crate) readings: Vec<Reading>,
}

/// A meter, beside its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which meter.
    pub meter: Meter,
    /// Its limit.
    pub limit: u64,
    /// Charged and held, rounded up; above the limit where estimates fell short.
    pub used: u64,
    /// What the request asked of it.
    pub requested: u64,
    /// How long until nothing of it is used, other requests' holds aside.
    pub reset: Duration,
    /// Whether it denies the request, and for how long.
    pub denial: Option<Wait>,
}

/// The meters of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meter {
    /// Requests per minute.
    RequestsPerMinute,
    /// Requests per day.
    RequestsPerDay,
    /// Requests at all.
    RequestsTotal,
    /// Tokens, prompt and answer together, per minute.
    TokensPerMinute,
    /// Tokens, prompt and answer together, per day.
    TokensPerDay,
    /// Requests at the same time.
    ConcurrentRequests,
    /// Nano-dollars per calendar month, UTC.
    BudgetPerMonth,
}

/// How long a denial lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Then the same request is admitted, if no other comes between.
    Exactly(Duration),
    /// Until other requests end.
    ForOthers,
    /// Waiting is useless: the request is larger than the limit, or the total is used up.
    ForEver,
}

/// What became of a `progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progressed {
    /// It counts.
    Renewed,
    /// The lease had expired and was billed so far; it holds again what it needs.
    Revived,
    /// It has ended already.
    Ended,
    /// The store has never heard of it, or has lost it.
    Unknown,
}

/// What became of a `settle` or `charge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Charged, and the event written.
    Done,
    /// It had been before; nothing was charged.
    Already,
    /// `settle` only: the store has never heard of the lease, or has lost it. Nothing was charged:
    /// `charge` does it.
    Unknown,
}

/// The store did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// No connection, or it broke; the call may or may not have taken effect.
    #[error("the store of limits cannot be reached: {message}")]
    Unreachable {
        /// For the log.
        message: String,
    },
    /// It did not answer in time; the call may or may not have taken effect.
    #[error("the store of limits did not answer within {after:?}")]
    TooSlow {
        /// The time.
        after: Duration,
    },
    /// It answers that it cannot serve any request now: out of memory, no permission, still loading.
    #[error("the store of limits failed: {message}")]
    Failed {
        /// For the log.
        message: String,
    },
    /// It refuses one account, or answers nonsense about it: what it keeps of the account has the wrong
    /// type or form. Other accounts are served.
    #[error("the store of limits refuses an account: {message} (key {key})")]
    Refused {
        /// The key that is to be looked at.
        key: String,
        /// For the log.
        message: String,
    },
}
