//! Calls to the store: skipped while it does not answer, bounded in time, and counted.

use std::sync::Arc;
use std::time::Duration;

use inferyard_redis_link::within;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Metrics;

use super::backing::Backing;
use super::breaker::Breaker;
use super::end::{Admitted, End};
use super::store::{
    Admission, AdmissionDecision, Lease, Progressed, Settled, Store as _, StoreError, Used,
};

/// The store and its circuit breaker.
pub(super) struct Calls {
    pub(super) backing: Backing,
    pub(super) breaker: Breaker,
    /// Timeout of calls that a request waits for; `None`: the store is always reachable.
    timeout: Option<Duration>,
    metrics: Arc<Metrics>,
    refusals: Refusals,
}

/// Why a call has no result. The log has the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallError {
    /// The call was skipped, because the breaker is open.
    NotAsked,
    /// The store did not answer; the call may or may not have taken effect.
    Unanswered,
    /// The store answered that this account's data is damaged. Other accounts are served, and a retry does not help.
    Refused,
}

/// Logs that the store refuses accounts, at a bounded rate.
#[derive(Debug, Default)]
struct Refusals(Mutex<Unsaid>);

#[derive(Debug, Default)]
struct Unsaid {
    last: Option<Instant>,
    count: u64,
}

/// Shortest time between two log lines about refused accounts.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Timeout of background calls, which may have to connect first.
const PATIENCE: Duration = Duration::from_secs(4);

// === impl Calls ===

impl Calls {
    pub(super) fn new(backing: Backing, timeout: Option<Duration>, metrics: Arc<Metrics>) -> Self {
        Self {
            backing,
            breaker: Breaker::default(),
            // The store has its own timeout and drops a connection that exceeds it, so that one must come first.
            timeout: timeout.map(|timeout| timeout + timeout / 10),
            metrics,
            refusals: Refusals::default(),
        }
    }

    pub(super) async fn admit(
        &self,
        admission: &Admission,
    ) -> Result<AdmissionDecision, CallError> {
        let work = self.backing.admit(admission);
        self.guarded("admit", self.timeout, work).await
    }

    pub(super) async fn raise(
        &self,
        admission: &Admission,
    ) -> Result<Option<AdmissionDecision>, CallError> {
        let work = self.backing.raise(admission);
        self.guarded("raise", self.timeout, work).await
    }

    pub(super) async fn refuse(
        &self,
        admission: &Admission,
    ) -> Result<AdmissionDecision, CallError> {
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

    /// Sends the end of a request to the store; idempotent. If the store refuses the account, the usage event is
    /// still written to the outbox, if possible.
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
        // It was admitted without the store, or the store has lost its data.
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

    /// Adds tokens to a pool, and returns the sum over all routers.
    pub(super) async fn pool(&self, name: &str, day: u64, tokens: u64) -> Result<u64, CallError> {
        let work = self.backing.pool(name, day, tokens);
        self.guarded("pool", self.timeout, work).await
    }

    /// Reports that this router is alive, and returns the live routers; empty: unknown. This call is also the probe
    /// of the breaker; `true`: the store has just become reachable again.
    pub(super) async fn beat(&self, router: &str) -> Result<(Vec<String>, bool), CallError> {
        let patience = self.timeout.map(|_| PATIENCE);
        let routers = match self
            .timed("beat", patience, self.backing.beat(router))
            .await
        {
            Ok(routers) => routers,
            // The set of routers is damaged, but the store answers.
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

    /// Removes this router from the live ones.
    pub(super) async fn leave(&self, router: &str) {
        let work = self.backing.leave(router);
        // If the call fails, the router counts as dead some seconds later.
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
                // The store answers and serves other accounts.
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
            tracing::error!(call, %error, "the store of limits in memory failed");
        } else if self.breaker.failed() {
            self.metrics.store_lost.set(1);
            tracing::warn!(
                call,
                %error,
                "the store of limits cannot be reached; requests are decided as their plans say until it answers"
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
            let mut unsaid = self.0.lock();
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
