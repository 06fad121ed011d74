//! Calls to the store: none while it does not answer, none for longer than allowed, each one counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::telemetry::Telemetry;

use super::backing::Backing;
use super::breaker::Breaker;
use super::end::End;
use super::store::{Admission, Decision, Lease, Progressed, Settled, Store as _, StoreError, Used};

/// The store, and whether it answers.
pub(super) struct Calls {
    pub(super) backing: Backing,
    pub(super) breaker: Breaker,
    /// How long a call may take for which a request waits; `None`: a store that cannot be lost.
    timeout: Option<Duration>,
    telemetry: Arc<Telemetry>,
}

/// The store did not answer, or was not asked because it did not before. The log has the reason.
#[derive(Debug)]
pub(super) struct Lost;

/// Work that no request waits for may take longer, and make a connection first.
const PATIENCE: Duration = Duration::from_secs(4);

// === impl Calls ===

impl Calls {
    pub(super) fn new(
        backing: Backing,
        timeout: Option<Duration>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            backing,
            breaker: Breaker::default(),
            // The store has the same limit, and drops a silent connection when it is reached: first.
            timeout: timeout.map(|timeout| timeout + timeout / 10),
            telemetry,
        }
    }

    pub(super) async fn admit(&self, admission: &Admission) -> Result<Decision, Lost> {
        let work = self.backing.admit(admission);
        self.guarded("admit", self.timeout, work).await
    }

    pub(super) async fn progress(&self, lease: &Lease, used: &Used) -> Result<Progressed, Lost> {
        let work = self.backing.progress(lease, used);
        self.guarded("progress", self.timeout, work).await
    }

    /// Gives back what a request holds that nobody waits for any more, if it got so far.
    pub(super) async fn abandon(&self, lease: &Lease, used: &Used) -> Result<Settled, Lost> {
        let work = self.backing.settle(lease, used);
        self.guarded("settle", self.timeout, work).await
    }

    /// Tells the store how a request ended. Repeated, it changes nothing.
    pub(super) async fn end(&self, end: &End) -> Result<(), Lost> {
        let used = end.used();
        if end.held {
            let work = self.backing.settle(&end.lease, &used);
            let settled = self.guarded("settle", self.timeout, work).await?;
            if settled != Settled::Unknown {
                return Ok(());
            }
        }
        // It was let in without the store, or the store has lost its data.
        let work = self.backing.charge(&end.lease, &used);
        self.guarded("charge", self.timeout, work).await.map(drop)
    }

    pub(super) async fn sweep(&self) -> Result<usize, Lost> {
        let patience = self.timeout.map(|_| PATIENCE);
        let swept = self
            .guarded("sweep", patience, self.backing.sweep())
            .await?;
        self.telemetry.limits.swept.inc_by(swept as u64);
        Ok(swept)
    }

    /// Adds tokens to a pool, and says how many all routers have added.
    pub(super) async fn pool(&self, name: &str, day: u64, tokens: u64) -> Result<u64, Lost> {
        let work = self.backing.pool(name, day, tokens);
        self.guarded("pool", self.timeout, work).await
    }

    /// Tells the store that this router lives, and hears which do. It is asked also while it does not
    /// answer, to learn when it does again; `true`: now.
    pub(super) async fn beat(&self, router: &str) -> Result<(Vec<String>, bool), Lost> {
        let patience = self.timeout.map(|_| PATIENCE);
        let routers = self
            .timed("beat", patience, self.backing.beat(router))
            .await?;
        let again = self.breaker.close();
        if again {
            self.telemetry.limits.store_lost.set(0);
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
    ) -> Result<T, Lost> {
        if self.breaker.is_open() {
            self.telemetry.limits.called(call, "not_asked", None);
            return Err(Lost);
        }
        self.timed(call, limit, work).await
    }

    async fn timed<T>(
        &self,
        call: &'static str,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Lost> {
        let begun = Instant::now();
        let result = match limit {
            Some(after) => {
                let in_time = timeout(after, work).await;
                in_time.unwrap_or(Err(StoreError::TooSlow { after }))
            }
            None => work.await,
        };
        let seconds = Some(begun.elapsed().as_secs_f64());
        let outcome = match &result {
            Ok(_) => "ok",
            Err(StoreError::Unreachable { .. }) => "unreachable",
            Err(StoreError::TooSlow { .. }) => "too_slow",
            Err(StoreError::Refused { .. }) => "refused",
        };
        self.telemetry.limits.called(call, outcome, seconds);
        match result {
            Ok(value) => {
                self.breaker.succeeded();
                Ok(value)
            }
            Err(error) => {
                self.failed(call, &error);
                Err(Lost)
            }
        }
    }

    fn failed(&self, call: &'static str, error: &StoreError) {
        if self.timeout.is_none() {
            tracing::error!(call, %error, "the memory of limits failed");
        } else if self.breaker.failed() {
            self.telemetry.limits.store_lost.set(1);
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
