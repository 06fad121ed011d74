//! A reservation: what a running request holds, and the guard that releases it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use inferyard_domain::{NanoDollars, PlanName};
use inferyard_proto::usage::v1::UsageEvent;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::calls::CallError;
use super::clock::{day, month};
use super::end::{Admitted, End, join};
use super::local::Held;
use super::replay::refuse;
use super::store::{Admission, Lease, LimitStatus, Used};
use super::{AdmissionRequest, LimitError, RETRY_AFTER, Shared};
use crate::kind::LimitKind;

/// The code of a request that was dropped without an end, as hyper does on a client disconnect.
pub(super) const LEFT: &str = "client_left";
pub(super) const LEFT_STATUS: u32 = 499;
/// Tokens after which a report is due.
const TOKENS_DUE: u64 = 512;

/// What a request holds until it ends. If dropped without `settle`, it is settled with its last `progress`, as a
/// client disconnect.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
    running: Arc<Running>,
    statuses: Arc<[LimitStatus]>,
    money: u64,
    /// The plan with the shared preview pool that these tokens count against.
    pool: Option<PlanName>,
    /// The caller has no key, so its refused requests are limited per hour.
    visitor: bool,
    settled: bool,
}

/// Changes the money that a running request holds.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

/// Resolves when the end of a request is safe: in the store or on disk. It completes even if not awaited.
#[derive(Debug)]
pub enum Settling {
    /// Completed at once, as with a store in memory.
    Safe,
    /// Completed by a task.
    Task(JoinHandle<()>),
}

/// A running request, shared by its reservation and the tasks that renew its lease.
pub(super) struct Running {
    pub(super) lease: Lease,
    pub(super) home: Home,
    /// Whether the store has its lease: since its admission, or since the store came back.
    in_store: AtomicBool,
    /// The first piece of its usage event.
    pub(super) first: Bytes,
    latest: Mutex<Used>,
    /// Tokens from which a report is due.
    due_tokens: AtomicU64,
    /// When a report is due, in milliseconds of the limiter's clock.
    due_ms: AtomicU64,
    /// Queued for a report, which sends the latest usage.
    queued: AtomicBool,
    ended: AtomicBool,
    /// The store has charged it as a request that it did not admit.
    charged: AtomicBool,
}

/// Where a request was admitted.
pub(super) enum Home {
    Store,
    /// In this router, because the store could not be reached.
    Local(Held),
    /// Nowhere: the store could not be reached, and the plan then admits every request.
    Nowhere,
}

// === impl Reservation ===

impl Reservation {
    pub(super) fn new(
        shared: &Arc<Shared>,
        wanted: &AdmissionRequest,
        lease: Lease,
        home: Home,
        money: u64,
        statuses: Arc<[LimitStatus]>,
    ) -> Self {
        let running = Running {
            lease,
            in_store: AtomicBool::new(matches!(home, Home::Store)),
            home,
            first: wanted.event.clone(),
            latest: Mutex::new(Used {
                held_tokens: wanted.tokens.get(),
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
            statuses,
            money,
            pool: pool.map(|_| wanted.plan.name.clone()),
            visitor: wanted.visitor,
            settled: false,
        }
    }

    /// Every limit that binds the request, after its admission; empty if the plan admitted it without the store.
    #[must_use]
    pub(crate) fn statuses(&self) -> &[LimitStatus] {
        &self.statuses
    }

    /// Nano-dollars granted.
    #[must_use]
    pub(crate) fn money(&self) -> NanoDollars {
        NanoDollars::new(self.money)
    }

    /// A handle that changes how much money it holds.
    #[must_use]
    pub(crate) fn hold(&self) -> Hold {
        Hold {
            shared: Arc::clone(&self.shared),
            running: Arc::clone(&self.running),
        }
    }

    /// Whether a report is due: after about five seconds or 512 tokens.
    #[must_use]
    pub(crate) fn is_due(&self, tokens: u64) -> bool {
        let running = &self.running;
        tokens >= running.due_tokens.load(Ordering::Relaxed)
            || self.shared.clock.elapsed_ms() >= running.due_ms.load(Ordering::Relaxed)
    }

    /// Stores the usage and queues a report; does not wait for it.
    pub(crate) fn progress(&self, used: Used) {
        let due = used.tokens.saturating_add(TOKENS_DUE);
        self.running.due_tokens.store(due, Ordering::Relaxed);
        *self.running.lock() = used;
        self.shared.registry.queue(&self.shared, &self.running);
    }

    /// Ends the request with its final usage. `used.event` is the second and third piece of the usage event.
    pub(crate) fn settle(mut self, used: Used) -> Settling {
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
            // The request has run already; it is counted even if the caller is over the limit by now.
            let _ = shared.refusals.count(&running.lease.account);
        }
        let tasks = shared.tasks.clone();
        let mut work = Box::pin(async move { settle(&shared, &running, used).await });
        // Polled once here: a store in memory is ready at once, and needs no task. The no-op waker is safe, because a
        // spawned task polls the future again.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Settling::Safe,
            Poll::Pending => Settling::Task(tasks.spawn_on(work, runtime)),
        }
    }
}

/// Without a runtime the process is shutting down; another router sweeps the lease when it expires.
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

/// The second and third piece of the usage event of a request without a complete answer.
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
        // `rejoin` may have re-admitted the lease concurrently. Both sides set their own flag before they read the
        // other's, with SeqCst, so at least one of them sees both flags and releases the lease.
        if running.is_in_store() {
            release(shared, running).await;
        }
    }
}

/// Sends the end of a request to the store, or keeps it for replay. Returns whether the store has it.
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

/// Ends the lease of a request that is charged already. The ledger drops its event as a duplicate.
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
    /// Changes the held money to `money` nano-dollars, or to the rest of the budget if that is less but at least
    /// `least_money`; returns the amount.
    ///
    /// # Errors
    ///
    /// [`LimitError`] if less is left or the store cannot be reached; the old amount then stays held.
    pub(crate) async fn change(
        &self,
        money: NanoDollars,
        least_money: NanoDollars,
    ) -> Result<NanoDollars, LimitError> {
        let (shared, running) = (&self.shared, &self.running);
        let unavailable = || LimitError::Unavailable {
            retry_after: RETRY_AFTER,
        };
        let admission = Admission {
            lease: running.lease.clone(),
            tokens: 0,
            money: money.get(),
            least_money: least_money.get(),
            shadow: false,
            month: month(shared.clock.now_us()),
            event: Bytes::new(),
        };
        let decision = match &running.home {
            _ if running.is_in_store() => {
                let raised = shared.calls.raise(&admission).await;
                raised.map_err(|error| match error {
                    CallError::Refused => LimitError::Refused,
                    CallError::NotAsked | CallError::Unanswered => unavailable(),
                })?
            }
            Home::Local(held) => held.raise(&admission).await,
            Home::Store | Home::Nowhere => return Ok(money),
        };
        // The lease has expired, or the store has lost it.
        let mut decision = decision.ok_or_else(unavailable)?;
        if decision.admitted {
            running.lock().held_money = decision.money;
            return Ok(NanoDollars::new(decision.money));
        }
        let of_budgets = |status: &LimitStatus| status.kind == LimitKind::BudgetPerMonth;
        decision.statuses.retain(of_budgets);
        shared.metrics.denied(&decision.statuses);
        Err(LimitError::Denied {
            statuses: decision.statuses.into(),
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

    /// Whether the last report is so old that the lease must be renewed.
    pub(super) fn is_silent(&self, now_ms: u64, patience_ms: u64) -> bool {
        now_ms
            >= self
                .due_ms
                .load(Ordering::Relaxed)
                .saturating_add(patience_ms)
    }

    /// Marks it as queued; `false`: it was queued already.
    pub(super) fn enqueue(&self, next_due_ms: u64) -> bool {
        self.due_ms.store(next_due_ms, Ordering::Relaxed);
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Takes it from the queue. The flag is cleared before the usage is read, so a later report queues it again.
    pub(super) fn dequeue(&self) -> Used {
        self.queued.store(false, Ordering::Release);
        self.latest()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Used> {
        self.latest.lock()
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
