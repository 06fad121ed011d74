//! What a request holds while it runs, and the guard that gives it back.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use inferyard_proto::usage::v1::UsageEvent;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::calls::CallError;
use super::clock::{day, month};
use super::end::{Admitted, End, join};
use super::local::Held;
use super::replay::refuse;
use super::store::{Admission, Lease, Meter, Reading, Used};
use super::{RETRY_AFTER, ReserveError, Shared, Wanted};

/// The code of a request of which nobody told the end: its future was dropped, as hyper does when the
/// client leaves.
pub(super) const LEFT: &str = "client_left";
pub(super) const LEFT_STATUS: u32 = 499;
/// After so many tokens it is time to say how far a request is.
const TOKENS_DUE: u64 = 512;

/// What a request holds until it ends. Dropped without `settle`, it is settled with what the last
/// `progress` said, as that of a client that left.
pub struct Reservation {
    shared: Arc<Shared>,
    running: Arc<Running>,
    readings: Arc<[Reading]>,
    money: u64,
    /// The plan whose callers share a pool of tokens that this is taken from.
    pool: Option<Arc<str>>,
    /// The caller has no key: only a few of its requests may be refused per hour.
    visitor: bool,
    settled: bool,
}

/// The money that a request holds while it runs.
pub struct Hold {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

/// Resolves when the end of a request is safe: the store has it, or the disk. It becomes safe without
/// being awaited, too.
#[derive(Debug)]
pub enum Settling {
    /// A store in memory has it at once.
    Safe,
    /// A task settles it.
    Task(JoinHandle<()>),
}

/// A request that runs, as its reservation and those who renew its lease see it.
pub(super) struct Running {
    pub(super) lease: Lease,
    pub(super) home: Home,
    /// Whether the store counts it: from the beginning, or since it was back.
    in_store: AtomicBool,
    /// The first piece of its usage event.
    pub(super) first: Bytes,
    latest: Mutex<Used>,
    /// From so many tokens on there is something to say.
    due_tokens: AtomicU64,
    /// From then on there is, in milliseconds of the limiter's clock.
    due_ms: AtomicU64,
    /// It waits to be sent: whoever sends it takes the latest.
    queued: AtomicBool,
    ended: AtomicBool,
    /// The store has charged it as a request that it had not admitted.
    charged: AtomicBool,
}

/// Where a request was let in.
pub(super) enum Home {
    Store,
    /// In this router, because the store was lost.
    Local(Held),
    /// Nowhere, because the store was lost and the plan lets it through.
    Nowhere,
}

// === impl Reservation ===

impl Reservation {
    pub(super) fn new(
        shared: &Arc<Shared>,
        wanted: &Wanted,
        lease: Lease,
        home: Home,
        money: u64,
        readings: Arc<[Reading]>,
    ) -> Self {
        let running = Running {
            lease,
            in_store: AtomicBool::new(matches!(home, Home::Store)),
            home,
            first: wanted.event.clone(),
            latest: Mutex::new(Used {
                held_tokens: wanted.tokens,
                held_money: money,
                ..Used::default()
            }),
            due_tokens: AtomicU64::new(TOKENS_DUE),
            due_ms: AtomicU64::new(shared.next_due_ms()),
            queued: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            charged: AtomicBool::new(false),
        };
        let running = Arc::new(running);
        shared.registry.enter(&running);
        let preview = wanted.plan.preview.as_ref();
        let pool = preview.and_then(|preview| preview.tokens_per_day);
        Self {
            shared: Arc::clone(shared),
            running,
            readings,
            money,
            pool: pool.map(|_| Arc::clone(&wanted.plan.name)),
            visitor: wanted.visitor,
            settled: false,
        }
    }

    /// Every limit that binds the request, after it was let in; empty where the plan lets requests
    /// through without the store.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Nano-dollars that were granted.
    #[must_use]
    pub fn money(&self) -> u64 {
        self.money
    }

    /// What it takes to change how much money it holds.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold {
            shared: Arc::clone(&self.shared),
            running: Arc::clone(&self.running),
        }
    }

    /// Whether it is time to say how far the request is: about every five seconds or 512 tokens.
    #[must_use]
    pub fn is_due(&self, tokens: u64) -> bool {
        let running = &self.running;
        tokens >= running.due_tokens.load(Ordering::Relaxed)
            || self.shared.clock.elapsed_ms() >= running.due_ms.load(Ordering::Relaxed)
    }

    /// Says how far the request is; it is sent at once, beside the caller.
    pub fn progress(&self, used: Used) {
        let due = used.tokens.saturating_add(TOKENS_DUE);
        self.running.due_tokens.store(due, Ordering::Relaxed);
        *self.running.lock() = used;
        self.shared.registry.queue(&self.shared, &self.running);
    }

    /// Ends it with what was used. `used.event` is the second and the third piece of the usage event.
    pub fn settle(mut self, used: Used) -> Settling {
        self.end(used, &Handle::current())
    }

    fn end(&mut self, used: Used, runtime: &Handle) -> Settling {
        self.settled = true;
        let (shared, running) = (Arc::clone(&self.shared), Arc::clone(&self.running));
        running.ended.store(true, Ordering::Relaxed);
        shared.registry.leave(&running);
        if let Some(pool) = &self.pool {
            let today = day(shared.clock.now_us());
            shared.pools.add(pool, used.tokens, today);
        }
        if self.visitor && used.refused {
            // One that comes too late to be turned away is counted all the same.
            let _ = shared.refusals.count(&running.lease.account);
        }
        let tasks = shared.tasks.clone();
        let mut work = Box::pin(async move { settle(&shared, &running, used).await });
        // Where nothing has to be waited for, a task would only be made to end.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Settling::Safe,
            Poll::Pending => Settling::Task(tasks.spawn_on(work, runtime)),
        }
    }
}

/// Without a runtime the process is about to end; another router will sweep the lease.
impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled
            && let Ok(runtime) = Handle::try_current()
        {
            let latest = self.running.latest();
            let now_us = self.shared.clock.now_us();
            let event = ended(&latest.event, LEFT_STATUS, LEFT, now_us);
            self.end(Used { event, ..latest }, &runtime);
        }
    }
}

/// The second and third piece of the event of a request that ended without an answer.
pub(super) fn ended(progress: &Bytes, status: u32, code: &str, now_us: u64) -> Bytes {
    let end = UsageEvent {
        status,
        code: code.to_owned(),
        ended_us: now_us,
        ..UsageEvent::default()
    };
    let mut event = progress.to_vec();
    event.extend(end.encode_to_vec());
    event.into()
}

async fn settle(shared: &Shared, running: &Running, used: Used) {
    if let Home::Local(held) = &running.home {
        held.settle(&used).await;
    }
    let end = End {
        lease: running.lease.clone(),
        admitted: if running.is_in_store() {
            Admitted::Yes
        } else {
            Admitted::No
        },
        tokens: used.tokens,
        money: used.money,
        refused: used.refused,
        event: join(&running.first, &used.event),
    };
    let admitted = end.admitted;
    if finish(shared, end).await && admitted == Admitted::No {
        running.charge();
        // `rejoin` may have had it admitted after the charge. Whichever of the two comes second sees that
        // the other has been, and releases the lease.
        if running.is_in_store() {
            release(shared, running).await;
        }
    }
}

/// Tells the store the end of a request, or keeps it until the store takes it. Says whether the store has
/// it.
pub(super) async fn finish(shared: &Shared, end: End) -> bool {
    match shared.calls.end(&end).await {
        Ok(()) => return true,
        Err(CallError::Refused) if refuse(shared, std::iter::once(&end)).await => return false,
        Err(_) => {}
    }
    shared.metrics.kept.inc();
    shared.backlog.keep(end).await;
    false
}

/// Ends the lease of a request that is charged already. The ledger has its event and drops this one.
pub(super) async fn release(shared: &Shared, running: &Running) {
    let now_us = shared.clock.now_us();
    let end = End {
        lease: running.lease.clone(),
        admitted: Admitted::Unknown,
        tokens: 0,
        money: 0,
        refused: false,
        event: ended(&running.first, LEFT_STATUS, LEFT, now_us),
    };
    // If this fails, the lease expires.
    let _ = shared.calls.end(&end).await;
}

// === impl Hold ===

impl Hold {
    /// Holds `money` nano-dollars from now on, or what is left if that is less but at least
    /// `least_money`; returns how many. Where less is left, what was held stays held until the request
    /// ends.
    pub async fn change(&self, money: u64, least_money: u64) -> Result<u64, ReserveError> {
        let (shared, running) = (&self.shared, &self.running);
        let unavailable = || ReserveError::Unavailable {
            retry_after: RETRY_AFTER,
        };
        let admission = Admission {
            lease: running.lease.clone(),
            tokens: 0,
            money,
            least_money,
            shadow: false,
            month: month(shared.clock.now_us()),
            event: Bytes::new(),
        };
        let decision = match &running.home {
            _ if running.is_in_store() => {
                let raised = shared.calls.raise(&admission).await;
                raised.map_err(|error| match error {
                    CallError::Refused => ReserveError::Refused,
                    CallError::NotAsked | CallError::Unanswered => unavailable(),
                })?
            }
            Home::Local(held) => held.raise(&admission).await,
            Home::Store | Home::Nowhere => return Ok(money),
        };
        // A lease that has expired meanwhile, or that the store has lost, holds nothing.
        let mut decision = decision.ok_or_else(unavailable)?;
        if decision.admitted {
            running.lock().held_money = decision.money;
            return Ok(decision.money);
        }
        let of_budgets = |reading: &Reading| reading.meter == Meter::BudgetPerMonth;
        decision.readings.retain(of_budgets);
        shared.metrics.denied(&decision.readings);
        Err(ReserveError::Denied {
            readings: decision.readings.into(),
        })
    }
}

// === impl Running ===

impl Running {
    pub(super) fn latest(&self) -> Used {
        self.lock().clone()
    }

    pub(super) fn is_in_store(&self) -> bool {
        self.in_store.load(Ordering::SeqCst)
    }

    pub(super) fn enter_store(&self) {
        self.in_store.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_charged(&self) -> bool {
        self.charged.load(Ordering::SeqCst)
    }

    fn charge(&self) {
        self.charged.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether nothing was said of it for so long that its lease must be renewed.
    pub(super) fn is_silent(&self, now_ms: u64, patience_ms: u64) -> bool {
        now_ms
            >= self
                .due_ms
                .load(Ordering::Relaxed)
                .saturating_add(patience_ms)
    }

    /// Says that it will be sent; `false` where that was said before.
    pub(super) fn enqueue(&self, next_due_ms: u64) -> bool {
        self.due_ms.store(next_due_ms, Ordering::Relaxed);
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// What is said after this is sent once more.
    pub(super) fn dequeue(&self) -> Used {
        self.queued.store(false, Ordering::Release);
        self.latest()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Used> {
        let latest = self.latest.lock();
        latest.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

// === impl Settling ===

impl Future for Settling {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Safe => Poll::Ready(()),
            Self::Task(task) => Pin::new(task).poll(cx).map(drop),
        }
    }
}
