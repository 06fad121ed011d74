//! Enforces every limit of a plan in one atomic decision, and accounts for each request until it ends.
//!
//! `reserve` asks the store, and `Reservation` is the guard that an admitted request holds. While the request runs,
//! `progress` reports its usage to the store; `settle` ends it. While the store cannot be reached, `calls` does not
//! ask it, `local` decides instead, `backlog` keeps ended requests, and `replay` sends them to the store afterwards.
//! `docs/limits.md` describes the guarantees.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use inferyard_catalog::{Limits, Plan};
use inferyard_domain::{Account, KeyName, NanoDollars, RequestId, Tokens};

mod config;
mod metrics;
mod kind;
mod store;
mod memory;
mod redis;
mod levels;
mod backing;
mod breaker;
mod calls;

mod request;
mod reserve;
mod refusals;
mod reservation;
mod progress;
mod end;

mod local;
mod share;
mod seen;
mod backlog;
mod spool;
mod replay;
mod rejoin;

mod upkeep;
mod peers;
mod pool;
mod clock;

pub use backlog::NoRoom;
pub use config::{LimitStore, LimitsConfig, Routers};
pub use kind::LimitKind;
pub use metrics::Metrics;
pub use request::{
    Bill, Estimates, Need, Recount, RequestContext, RequestEnd, ReserveError, Reserved,
    ReservedParts, ReservedRequest, check_visitor, refuse, reserve,
};
pub use reservation::Settling;
pub use spool::SpoolError;
pub use store::{LimitStatus, Used, Wait};

use backing::Backing;
use backlog::Backlog;
use calls::Calls;
use clock::Clock;
use local::Local;
use pool::Pools;
use progress::Registry;
use refusals::{Refusals, TurnedAway};
use reservation::Reservation;

/// Bytes waiting for the store from which no request is admitted; bounds memory or disk.
const BACKLOG: u64 = 256 << 20;
/// Longest interval between two reports about a request.
const INTERVAL: Duration = Duration::from_secs(5);
/// `Retry-After` while the store cannot be reached; the router probes it once a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long shutdown waits until the ends of requests are stored.
const LAST_ENDS: Duration = Duration::from_secs(10);

/// Admits requests within their limits, and counts their usage. One per router.
pub struct Limiter {
    shared: Arc<Shared>,
}

/// A request to admit.
#[derive(Debug, Clone)]
pub(crate) struct AdmissionRequest {
    /// Its id.
    pub(crate) id: RequestId,
    /// The account that pays.
    pub(crate) account: Account,
    /// The plan it is on.
    pub(crate) plan: Arc<Plan>,
    /// Whether the caller has no key.
    pub(crate) visitor: bool,
    /// Name and limits of the key, if it has its own limits.
    pub(crate) key: Option<(KeyName, Limits)>,
    /// Tokens to hold.
    pub(crate) tokens: Tokens,
    /// Nano-dollars to hold.
    pub(crate) money: NanoDollars,
    /// Nano-dollars below which the request is denied.
    pub(crate) least_money: NanoDollars,
    /// The first piece of its usage event.
    pub(crate) event: Bytes,
}

/// Why a request is not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    /// A limit is reached.
    #[error("a limit is reached")]
    Denied {
        /// All limits of the request; those that deny it have a `denial`.
        statuses: Arc<[LimitStatus]>,
    },
    /// Too many requests of a caller without a key were refused as invalid.
    #[error("too many requests were refused")]
    TurnedAway(TurnedAway),
    /// The store cannot be reached, and the plan requires it.
    #[error("the store of limits cannot be reached")]
    Unavailable {
        /// When to retry.
        retry_after: Duration,
    },
    /// The usage of the request could not be kept until it is stored.
    #[error("usage cannot be kept")]
    NoRoom {
        /// Why not.
        #[source]
        why: NoRoom,
        /// When to retry.
        retry_after: Duration,
    },
    /// The store's data of this account is damaged.
    #[error("the store of limits refuses the account")]
    Refused,
}

/// Why a limiter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LimiterError {
    /// The spool folder cannot be used.
    #[error(transparent)]
    Spool(SpoolError),
}

/// State shared by the parts of a limiter.
struct Shared {
    calls: Calls,
    local: Local,
    registry: Registry,
    backlog: Backlog,
    pools: Pools,
    refusals: Refusals,
    clock: Clock,
    /// Tasks that end requests.
    tasks: TaskTracker,
    answers_again: Notify,
    /// The random name of this router among the routers that share the store.
    router: String,
    lease_time: Duration,
    interval_ms: u64,
    metrics: Arc<Metrics>,
}

// === impl LimitError ===

impl From<TurnedAway> for LimitError {
    fn from(turned_away: TurnedAway) -> Self {
        Self::TurnedAway(turned_away)
    }
}

// === impl Limiter ===

impl Limiter {
    /// Creates a limiter without connecting; it takes the spool folder.
    ///
    /// # Errors
    ///
    /// [`LimiterError`] if the spool folder cannot be used.
    pub fn new(config: LimitsConfig, metrics: Arc<Metrics>) -> Result<Self, LimiterError> {
        let backing;
        let mut spool = None;
        let mut timeout = None;
        match config.store {
            LimitStore::Memory { outbox } => backing = Backing::Memory(memory::Memory::new(outbox)),
            LimitStore::Redis {
                address,
                spool: folder,
                timeout: after,
            } => {
                backing = Backing::Redis(Box::new(redis::Redis::new(address, after)));
                spool = folder;
                timeout = Some(after);
            }
        }
        let backlog = Backlog::open(spool.as_deref(), BACKLOG);
        let backlog = backlog.map_err(LimiterError::Spool)?;
        let calls = Calls::new(backing, timeout, Arc::clone(&metrics));
        Ok(Self::with(
            calls,
            backlog,
            config.lease_time,
            config.routers,
            metrics,
        ))
    }

    fn with(
        calls: Calls,
        backlog: Backlog,
        lease_time: Duration,
        routers: Routers,
        metrics: Arc<Metrics>,
    ) -> Self {
        let interval = INTERVAL.min(lease_time / 4);
        let shared = Shared {
            calls,
            local: Local::new(routers),
            registry: Registry::new(),
            backlog,
            pools: Pools::default(),
            refusals: Refusals::new(),
            clock: Clock::start(),
            tasks: TaskTracker::new(),
            answers_again: Notify::new(),
            router: random_name(),
            lease_time,
            interval_ms: clock::micros(interval) / 1_000,
            metrics,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Runs the background work until `shutdown`, which must follow the last request. Then waits up to `LAST_ENDS`
    /// for the ends in progress.
    pub async fn run(&self, shutdown: CancellationToken) {
        let shared = &self.shared;
        tokio::join!(
            progress::run(shared, &shutdown),
            Box::pin(upkeep::run(shared, &shutdown)),
            Box::pin(replay::run(shared, &shutdown)),
        );
        let last = async {
            shared.tasks.close();
            shared.tasks.wait().await;
            replay::bring_memory(shared, &CancellationToken::new()).await;
            shared.backlog.move_to_disk().await;
            shared.calls.leave(&shared.router).await;
        };
        let in_time = timeout(LAST_ENDS, last).await;
        if in_time.is_err() || shared.backlog.has_in_memory() {
            tracing::error!("usage of some requests could not be stored and is lost");
        }
    }

    /// Admits a request, or returns the limits that deny it and for how long.
    ///
    /// # Errors
    ///
    /// [`LimitError`] if the request is not admitted.
    ///
    /// # Cancellation
    ///
    /// If dropped before the decision, a task releases what the store may have admitted.
    pub(crate) async fn reserve(
        &self,
        wanted: AdmissionRequest,
    ) -> Result<Reservation, LimitError> {
        reserve::reserve(&self.shared, wanted).await
    }

    /// Checks that a caller without a key has not had too many requests refused.
    pub(crate) fn check_visitor(&self, account: &Account) -> Result<(), LimitError> {
        Ok(self.shared.refusals.check(account)?)
    }

    /// Counts a request that is refused as invalid before anything is reserved: per minute, and for callers without a
    /// key also per hour.
    ///
    /// # Errors
    ///
    /// [`LimitError`] if a limit denies even that.
    pub(crate) async fn refuse(&self, wanted: &AdmissionRequest) -> Result<(), LimitError> {
        refusals::refuse(&self.shared, wanted).await
    }

    /// Checks that the usage of another request can be kept until it is stored; otherwise no request is admitted.
    pub fn room(&self) -> Result<(), NoRoom> {
        self.shared.room()
    }

    /// Whether the plan's preview has tokens left today in the pool that all its callers share. Approximate: the
    /// tokens of a request count when it settles.
    pub(crate) fn pool(&self, plan: &Plan) -> bool {
        let preview = plan.preview.as_ref();
        let limit = preview.and_then(|preview| preview.tokens_per_day);
        limit.is_none_or(|limit| {
            let today = clock::day(self.shared.clock.now_us());
            self.shared.pools.has_left(&plan.name, limit, today)
        })
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Limiter").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Checks the space for usage that waits for Redis, or for the ledger of this process.
    fn room(&self) -> Result<(), NoRoom> {
        if self.calls.backing.is_full() {
            return Err(NoRoom::Ledger);
        }
        self.backlog.room()
    }

    /// When the next report of a request is due, if one is made now; in milliseconds of the clock.
    fn next_due_ms(&self) -> u64 {
        self.clock.elapsed_ms() + self.interval_ms
    }

    /// How often requests without a recent report are looked for.
    fn look_every(&self) -> Duration {
        Duration::from_millis((self.interval_ms / 8).max(1))
    }
}

fn random_name() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system should have random bytes");
    u128::from_be_bytes(bytes).to_string()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod conformance;
