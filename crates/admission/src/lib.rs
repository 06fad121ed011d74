//! Every limit of a plan in one atomic decision, and what becomes of it until the answer ends.
//!
//! `reserve` asks the store, and `Reservation` is what a request then holds. While it runs, `progress`
//! tells the store how far it is; `settle` ends it. Where the store is lost, `calls` does not ask it,
//! `local` decides for it, `backlog` keeps for it, and `replay` brings it what was kept.
//! `docs/limits.md` says what is promised.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use inferyard_catalog::{Limits, Plan};

mod config;
mod metrics;
mod store;
mod memory;
mod redis;
mod meters;
mod backing;
mod breaker;
mod calls;

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
pub use metrics::Metrics;
pub use refusals::{MOST as MOST_REFUSALS, TurnedAway};
pub use reservation::{Hold, Reservation, Settling};
pub use spool::SpoolError;
pub use store::{Meter, Reading, Used, Wait};

use backing::Backing;
use backlog::Backlog;
use calls::Calls;
use clock::Clock;
use local::Local;
use pool::Pools;
use progress::Registry;
use refusals::Refusals;

/// From so many bytes on that wait for the store nobody is let in.
const BACKLOG: u64 = 256 << 20;
/// The longest time between two words about a request.
const INTERVAL: Duration = Duration::from_secs(5);
/// When to try again what only the store could decide: it is asked once a second whether it is there.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the ends of requests may take to become safe when the router ends.
const LAST_ENDS: Duration = Duration::from_secs(10);

/// Decides who gets in, and counts what they use. One per router.
pub struct Limiter {
    shared: Arc<Shared>,
}

/// A request that wants in.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The 128 random bits of the request id.
    pub id: [u8; 16],
    /// Who pays.
    pub account: Arc<str>,
    /// The plan it is on.
    pub plan: Arc<Plan>,
    /// The caller has no key.
    pub visitor: bool,
    /// Name and limits of the key, where it has limits of its own.
    pub key: Option<(Arc<str>, Limits)>,
    /// Tokens to hold.
    pub tokens: u64,
    /// Nano-dollars to hold.
    pub money: u64,
    /// The fewest nano-dollars that are of use.
    pub least_money: u64,
    /// The first piece of the usage event.
    pub event: Bytes,
}

/// Why a request is not let in.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// A limit is reached.
    #[error("a limit is reached")]
    Denied {
        /// All limits of the request; those that deny it say so.
        readings: Arc<[Reading]>,
    },
    /// A caller without a key has had too many requests refused for their own fault.
    #[error("too many requests were refused")]
    TurnedAway(TurnedAway),
    /// The limits cannot be known now, and the plan does not allow to go on without.
    #[error("the store of limits cannot be reached")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// What the request uses could not be kept until the store has it.
    #[error("usage cannot be kept")]
    NoRoom {
        /// Why.
        #[source]
        why: NoRoom,
        /// When to try again.
        retry_after: Duration,
    },
    /// What the store keeps of this account is damaged.
    #[error("the store of limits refuses the account")]
    Refused,
}

/// Why a limiter cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LimiterError {
    /// The folder for what was used cannot be had.
    #[error(transparent)]
    Spool(SpoolError),
}

/// What the parts of a limiter share.
struct Shared {
    calls: Calls,
    local: Local,
    registry: Registry,
    backlog: Backlog,
    pools: Pools,
    refusals: Refusals,
    clock: Clock,
    /// What ends requests.
    tasks: TaskTracker,
    answers_again: Notify,
    /// The name of this router among others: random.
    router: String,
    lease_time: Duration,
    interval_ms: u64,
    metrics: Arc<Metrics>,
}

// === impl ReserveError ===

impl From<TurnedAway> for ReserveError {
    fn from(turned_away: TurnedAway) -> Self {
        Self::TurnedAway(turned_away)
    }
}

// === impl Limiter ===

impl Limiter {
    /// A limiter that connects to nothing yet; it only takes the folder of its spool.
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

    /// Does what is due beside requests, until `shutdown`, which comes after the last request. Then the
    /// ends that are under way become safe, and it returns.
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
            tracing::error!("usage of some requests is in no store and is lost");
        }
    }

    /// Lets a request in, or says which limits deny it and for how long.
    ///
    /// # Cancellation
    ///
    /// Dropped before it is decided, what the store may have admitted is given back.
    pub async fn reserve(&self, wanted: Wanted) -> Result<Reservation, ReserveError> {
        reserve::reserve(&self.shared, wanted).await
    }

    /// Whether another request of a caller without a key is looked at, or too many of its requests were
    /// refused.
    pub fn check_visitor(&self, account: &Arc<str>) -> Result<(), ReserveError> {
        Ok(self.shared.refusals.check(account)?)
    }

    /// Counts a request that is refused for its own fault before anything is held for it: per minute, and for
    /// callers without a key per hour. Where a limit denies even that, the error says so.
    pub async fn refuse(&self, wanted: &Wanted) -> Result<(), ReserveError> {
        refusals::refuse(&self.shared, wanted).await
    }

    /// Whether the usage of another request can be kept until it is stored; otherwise no request is admitted.
    pub fn room(&self) -> Result<(), NoRoom> {
        self.shared.room()
    }

    /// Whether the preview of this plan has tokens left today, of those that all its callers share.
    /// Approximate; what its requests use is counted when they settle.
    #[must_use]
    pub fn pool(&self, plan: &Plan) -> bool {
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
    /// Whether there is room for what waits: for Redis, and for the ledger of this process.
    fn room(&self) -> Result<(), NoRoom> {
        if self.calls.backing.is_full() {
            return Err(NoRoom::Ledger);
        }
        self.backlog.room()
    }

    /// When there is something to say of a request of which something was said now.
    fn next_due_ms(&self) -> u64 {
        self.clock.elapsed_ms() + self.interval_ms
    }

    /// How often silent requests are looked for.
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
