//! Tests of the limiter with a store that fails on demand, and with a Redis that is killed.
//!
//! With the store in memory the clock is paused: it advances when all tasks wait, so tests take no real time.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::memory::Memory;
use super::store::{Admission, AdmissionDecision, Lease, Progressed, Settled, Store, StoreError};
use super::*;
use inferyard_catalog::OnLoss;

mod ledger_stuck;
mod life;
mod loss;
mod replayed;
mod peers;
mod on_redis;
mod refused;
mod disk;
mod server;

/// Bound on waits for events that usually come within milliseconds, for a busy machine.
const BOUND: Duration = Duration::from_mins(5);
/// Timeout of a call to the store.
const TIMEOUT: Duration = Duration::from_millis(250);

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(
        &mut prometheus_client::registry::Registry::default(),
    ))
}

/// A store in memory whose connection fails on demand.
pub(super) struct Flaky {
    memory: Mutex<Arc<Memory>>,
    fault: AtomicU8,
    pub(super) calls: AtomicUsize,
    /// Calls that still arrive before the fault begins; 0: all arrive.
    pub(super) answers_left: AtomicUsize,
    /// Names of other live routers.
    pub(super) others: Mutex<Vec<String>>,
}

/// The fault of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    /// Calls are answered.
    None,
    /// Calls do not arrive, with an error.
    Away,
    /// Calls do not arrive, without an error.
    Silent,
    /// Calls arrive, but their answers do not, with an error.
    NoAnswers,
    /// Calls arrive, but their answers do not, without an error.
    SilentAnswers,
}

// === impl Flaky ===

impl Flaky {
    fn new(outbox: Option<mpsc::Sender<Entry>>) -> Arc<Self> {
        Arc::new(Self {
            memory: Mutex::new(Arc::new(Memory::new(outbox))),
            fault: AtomicU8::new(Fault::None as u8),
            calls: AtomicUsize::new(0),
            answers_left: AtomicUsize::new(0),
            others: Mutex::default(),
        })
    }

    pub(super) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// The store loses its data.
    pub(super) fn lose_data(&self, outbox: Option<mpsc::Sender<Entry>>) {
        *self.memory.lock().unwrap() = Arc::new(Memory::new(outbox));
    }

    pub(super) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory.lock().unwrap())
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn gate<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let away = || StoreError::Unreachable {
            message: "away".into(),
        };
        let left = &self.answers_left;
        let less = |left: usize| left.checked_sub(1);
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1) {
            self.set(Fault::Away);
        }
        let fault = self.fault.load(Ordering::SeqCst);
        if fault == Fault::None as u8 {
            work.await
        } else if fault == Fault::Away as u8 {
            Err(away())
        } else if fault == Fault::Silent as u8 {
            std::future::pending().await
        } else {
            work.await?;
            if fault == Fault::SilentAnswers as u8 {
                std::future::pending::<()>().await;
            }
            Err(away())
        }
    }

    pub(super) async fn publish(&self) -> Result<(), StoreError> {
        self.gate(async { Ok(()) }).await
    }

    pub(super) async fn beat(&self, router: &str) -> Result<Vec<String>, StoreError> {
        let mut routers = self.others.lock().unwrap().clone();
        routers.push(router.to_owned());
        routers.sort();
        self.gate(async { Ok(routers) }).await
    }
}

impl Store for Flaky {
    async fn admit(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        let memory = self.memory();
        self.gate(memory.admit(admission)).await
    }

    async fn raise(&self, admission: &Admission) -> Result<Option<AdmissionDecision>, StoreError> {
        let memory = self.memory();
        self.gate(memory.raise(admission)).await
    }

    async fn refuse(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        let memory = self.memory();
        self.gate(memory.refuse(admission)).await
    }

    async fn progress(&self, lease: &Lease, used: &Used) -> Result<Progressed, StoreError> {
        let memory = self.memory();
        self.gate(memory.progress(lease, used)).await
    }

    async fn settle(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        let memory = self.memory();
        self.gate(memory.settle(lease, used)).await
    }

    async fn charge(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        let memory = self.memory();
        self.gate(memory.charge(lease, used)).await
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        let memory = self.memory();
        self.gate(memory.sweep()).await
    }
}

/// A limiter with its store and outbox.
pub(super) struct Bench {
    pub(super) limiter: Arc<Limiter>,
    pub(super) flaky: Arc<Flaky>,
    outbox: mpsc::Receiver<Entry>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) spool: Option<&'a Path>,
    pub(super) backlog: u64,
    pub(super) lease_time: Duration,
    pub(super) routers: Option<u32>,
    pub(super) most_routers: Option<u32>,
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self {
            spool: None,
            backlog: BACKLOG,
            lease_time: Duration::from_secs(30),
            routers: None,
            most_routers: None,
        }
    }
}

impl Bench {
    /// Creates it, and waits for the router's first beat.
    pub(super) async fn new(setting: Setting<'_>) -> Self {
        let bench = Self::with(setting, |_| {});
        bench
            .until(|bench| bench.limiter.shared.local.routers().is_some())
            .await;
        bench
    }

    pub(super) fn with(setting: Setting<'_>, prepare: impl FnOnce(&Flaky)) -> Self {
        let (sender, outbox) = mpsc::channel(10_000);
        let flaky = Flaky::new(Some(sender));
        prepare(&flaky);
        let metrics = metrics();
        let backing = Backing::Flaky(Arc::clone(&flaky));
        let calls = Calls::new(backing, Some(TIMEOUT), Arc::clone(&metrics));
        let backlog = Backlog::open(setting.spool, setting.backlog).unwrap();
        let limiter = Limiter::with(
            calls,
            backlog,
            setting.lease_time,
            Routers {
                least: setting.routers,
                most: setting.most_routers,
            },
            metrics,
        );
        let limiter = Arc::new(limiter);
        let shutdown = CancellationToken::new();
        let running = {
            let (limiter, shutdown) = (Arc::clone(&limiter), shutdown.clone());
            tokio::spawn(async move { limiter.run(shutdown).await })
        };
        Self {
            limiter,
            flaky,
            outbox,
            shutdown,
            running,
        }
    }

    pub(super) async fn until(&self, is: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is(self) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(BOUND, wait).await.expect("it should come");
    }

    /// Makes calls fail until the breaker opens.
    pub(super) async fn lose(&self, fault: Fault) {
        self.flaky.set(fault);
        let calls = &self.limiter.shared.calls;
        while !calls.breaker.is_open() {
            assert!(calls.sweep().await.is_err());
        }
    }

    pub(super) async fn find(&self) {
        self.flaky.set(Fault::None);
        self.until(|bench| !bench.limiter.shared.calls.breaker.is_open())
            .await;
    }

    pub(super) async fn event(&mut self) -> (UsageEvent, u32) {
        let entry = timeout(BOUND, self.outbox.recv()).await;
        let entry = entry.expect("an event should come").unwrap();
        (UsageEvent::decode(entry.event).unwrap(), entry.part)
    }

    /// Shuts the router down, and returns the events left in the outbox.
    pub(super) async fn end(mut self) -> Vec<UsageEvent> {
        self.shutdown.cancel();
        timeout(BOUND, self.running).await.unwrap().unwrap();
        let mut events = Vec::new();
        while let Ok(entry) = self.outbox.try_recv() {
            events.push(UsageEvent::decode(entry.event).unwrap());
        }
        events
    }
}

pub(super) fn plan(on_loss: OnLoss, limits: Limits) -> Arc<Plan> {
    Arc::new(Plan {
        limits,
        on_loss,
        ..Plan::unrestricted("p")
    })
}

pub(super) fn requests_total(limit: u64) -> Limits {
    Limits {
        requests_total: NonZeroU64::new(limit),
        ..Limits::default()
    }
}

pub(super) fn wanted(plan: &Arc<Plan>, account: &str) -> AdmissionRequest {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    let event = UsageEvent {
        request_id: format!("req_{:032x}", u128::from_be_bytes(id)),
        account: account.to_owned(),
        code: "router_lost".to_owned(),
        ..UsageEvent::default()
    };
    AdmissionRequest {
        visitor: false,
        id: RequestId::of(id),
        account: account.into(),
        plan: Arc::clone(plan),
        key: None,
        tokens: Tokens::new(100),
        money: NanoDollars::ZERO,
        least_money: NanoDollars::ZERO,
        event: event.encode_to_vec().into(),
    }
}

/// Usage of `tokens` tokens, with a code if it is the end.
pub(super) fn used(tokens: u64, code: &str) -> Used {
    let event = UsageEvent {
        completion_tokens: tokens,
        code: code.to_owned(),
        ..UsageEvent::default()
    };
    Used {
        tokens,
        event: event.encode_to_vec().into(),
        ..Used::default()
    }
}

pub(super) fn is_denied<T>(result: &Result<T, LimitError>) -> bool {
    matches!(result, Err(LimitError::Denied { .. }))
}

pub(super) fn is_unavailable<T>(result: &Result<T, LimitError>) -> bool {
    matches!(result, Err(LimitError::Unavailable { .. }))
}
