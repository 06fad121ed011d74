//! Calls to the store: none while it does not answer, none for longer than allowed, each one counted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use inferyard_redis_link::within;
use tokio::time::Instant;

use crate::metrics::Metrics;

use super::backing::Backing;
use super::breaker::Breaker;
use super::end::{Admitted, End};
use super::store::{Admission, Decision, Lease, Progressed, Settled, Store as _, StoreError, Used};

/// The store, and whether it answers.
pub(super) struct Calls {
    pub(super) backing: Backing,
    pub(super) breaker: Breaker,
    /// How long a call may take for which a request waits; `None`: a store that cannot be lost.
    timeout: Option<Duration>,
    metrics: Arc<Metrics>,
    refusals: Refusals,
}

/// Why a call has no result. The log has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallError {
    /// The store was not asked, because it did not answer before.
    NotAsked,
    /// The store did not answer; the call may or may not have taken effect.
    Unanswered,
    /// The store answers, and refuses what concerns this account: what it keeps of it is damaged. It
    /// serves all others, and does no better when it is asked again.
    Refused,
}

/// Says in the log that the store refuses accounts, at a bounded rate.
#[derive(Debug, Default)]
struct Refusals(Mutex<Unsaid>);

#[derive(Debug, Default)]
struct Unsaid {
    last: Option<Instant>,
    count: u64,
}

/// At most one line about refusals in this time.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Work that no request waits for may take longer, and make a connection first.
const PATIENCE: Duration = Duration::from_secs(4);

// === impl Calls ===

impl Calls {
    pub(super) fn new(backing: Backing, timeout: Option<Duration>, metrics: Arc<Metrics>) -> Self {
        Self {
            backing,
            breaker: Breaker::default(),
            // The store has the same limit, and drops a silent connection when it is reached: first.
            timeout: timeout.map(|timeout| timeout + timeout / 10),
            metrics,
            refusals: Refusals::default(),
        }
    }

    pub(super) async fn admit(&self, admission: &Admission) -> Result<Decision, CallError> {
        let work = self.backing.admit(admission);
        self.guarded("admit", self.timeout, work).await
    }

    pub(super) async fn raise(&self, admission: &Admission) -> Result<Option<Decision>, CallError> {
        let work = self.backing.raise(admission);
        self.guarded("raise", self.timeout, work).await
    }

    pub(super) async fn refuse(&self, admission: &Admission) -> Result<Decision, CallError> {
        let work = self.backing.refuse(admission);
        self.guarded("refuse", self.timeout, work).await
    }

    pub(super) async fn progress(
        &self,
        lease: &Lease,
        used: &Used,
    ) -> Result<Progressed, CallError> {
        let work = self.backing.progress(lease, used);
        self.guarded("progress", self.timeout, work).await
    }

    /// Tells the store how a request ended. Repeated, it changes nothing. Where the store refuses that,
    /// the usage event is in the outbox nevertheless, if the outbox can be written.
    pub(super) async fn end(&self, end: &End) -> Result<(), CallError> {
        let result = self.charge(end).await;
        if result == Err(CallError::Refused) {
            if end.admitted == Admitted::Unknown {
                // A store that refuses the account has admitted nothing for it.
                return Ok(());
            }
            let work = self.backing.publish(&end.lease.account, &end.event);
            let published = self.guarded("publish", self.timeout, work).await;
            if let Err(lost @ (CallError::NotAsked | CallError::Unanswered)) = published {
                return Err(lost);
            }
        }
        result
    }

    async fn charge(&self, end: &End) -> Result<(), CallError> {
        let used = end.used();
        if end.admitted != Admitted::No {
            let work = self.backing.settle(&end.lease, &used);
            let settled = self.guarded("settle", self.timeout, work).await?;
            if settled != Settled::Unknown || end.admitted == Admitted::Unknown {
                return Ok(());
            }
        }
        // It was let in without the store, or the store has lost its data.
        let work = self.backing.charge(&end.lease, &used);
        self.guarded("charge", self.timeout, work).await.map(drop)
    }

    pub(super) async fn sweep(&self) -> Result<usize, CallError> {
        let patience = self.timeout.map(|_| PATIENCE);
        let swept = self
            .guarded("sweep", patience, self.backing.sweep())
            .await?;
        self.metrics.swept.inc_by(swept as u64);
        Ok(swept)
    }

    /// Adds tokens to a pool, and says how many all routers have added.
    pub(super) async fn pool(&self, name: &str, day: u64, tokens: u64) -> Result<u64, CallError> {
        let work = self.backing.pool(name, day, tokens);
        self.guarded("pool", self.timeout, work).await
    }

    /// Tells the store that this router lives, and hears which do; none: it does not say. It is asked
    /// also while it does not answer, to learn when it does again; `true`: now.
    pub(super) async fn beat(&self, router: &str) -> Result<(Vec<String>, bool), CallError> {
        let patience = self.timeout.map(|_| PATIENCE);
        let routers = match self
            .timed("beat", patience, self.backing.beat(router))
            .await
        {
            Ok(routers) => routers,
            // What it keeps of routers is damaged: it answers all the same.
            Err(CallError::Refused) => Vec::new(),
            Err(lost) => return Err(lost),
        };
        let again = self.breaker.close();
        if again {
            self.metrics.store_lost.set(0);
            tracing::info!("the store of limits answers again");
        }
        Ok((routers, again))
    }

    /// Tells the store that this router ends.
    pub(super) async fn leave(&self, router: &str) {
        let work = self.backing.leave(router);
        // Unheard, it is taken for dead some seconds later.
        let _ = self.guarded("leave", self.timeout, work).await;
    }

    async fn guarded<T>(
        &self,
        call: &'static str,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, CallError> {
        if self.breaker.is_open() {
            self.metrics.called(call, "not_asked", None);
            return Err(CallError::NotAsked);
        }
        self.timed(call, limit, work).await
    }

    async fn timed<T>(
        &self,
        call: &'static str,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, CallError> {
        let begun = Instant::now();
        let result = match limit {
            Some(after) => {
                let in_time = within(after, work).await;
                in_time.unwrap_or(Err(StoreError::TooSlow { after }))
            }
            None => work.await,
        };
        let seconds = Some(begun.elapsed().as_secs_f64());
        let outcome = match &result {
            Ok(_) => "ok",
            Err(StoreError::Unreachable { .. }) => "unreachable",
            Err(StoreError::TooSlow { .. }) => "too_slow",
            Err(StoreError::Failed { .. }) => "failed",
            Err(StoreError::Refused { .. }) => "refused",
        };
        self.metrics.called(call, outcome, seconds);
        match result {
            Ok(value) => {
                self.breaker.succeeded();
                Ok(value)
            }
            Err(error @ StoreError::Refused { .. }) => {
                // It answers, and serves others.
                self.breaker.succeeded();
                self.refusals.say(call, &error);
                Err(CallError::Refused)
            }
            Err(error) => {
                self.failed(call, &error);
                Err(CallError::Unanswered)
            }
        }
    }

    fn failed(&self, call: &'static str, error: &StoreError) {
        if self.timeout.is_none() {
            tracing::error!(call, %error, "the memory of limits failed");
        } else if self.breaker.failed() {
            self.metrics.store_lost.set(1);
            tracing::warn!(
                call,
                %error,
                "the store of limits is lost; plans decide by themselves until it answers"
            );
        } else {
            tracing::debug!(call, %error, "the store of limits failed");
        }
    }
}

// === impl Refusals ===

impl Refusals {
    fn say(&self, call: &'static str, error: &StoreError) {
        let unsaid = {
            let unsaid = self.0.lock();
            let mut unsaid = unsaid.unwrap_or_else(std::sync::PoisonError::into_inner);
            if unsaid.last.is_some_and(|last| last.elapsed() < SAY_EVERY) {
                unsaid.count += 1;
                return;
            }
            unsaid.last = Some(Instant::now());
            std::mem::take(&mut unsaid.count)
        };
        tracing::error!(
            call,
            %error,
            unsaid,
            "requests of this account are refused until its key in Redis is repaired or deleted"
        );
    }
}
