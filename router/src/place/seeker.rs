//! A request that looks for a worker, and what it may claim where it has to wait for one.

use std::sync::Arc;
use std::time::Duration;

use inferyard_placement::{Claim, WaiterId, Work};
use tokio::time::Instant;

use crate::request_id::RequestId;
use inferyard_catalog::Key;

/// A request that looks for a worker.
pub(crate) struct Seeker {
    pub(super) request: RequestId,
    /// Its id.
    pub(super) model: Arc<str>,
    pub(super) work: Work,
    pub(super) claim: Arc<Claim>,
    pub(super) max_wait: Duration,
    /// Workers that say they have room refused it: it waits for news of them before it asks again.
    pub(super) must_wait: bool,
    /// Since when it has waited, from the first time on.
    pub(super) since: Option<Instant>,
    /// The place in the line that it had; it gets the same again.
    pub(super) had: Option<WaiterId>,
}

// === impl Seeker ===

impl Seeker {
    pub(crate) fn new(request: RequestId, model: &Arc<str>, work: Work, key: &Key) -> Self {
        let plan = &key.plan;
        let claim = Claim {
            account: Arc::clone(&key.account),
            plan: Arc::clone(&plan.name),
            priority: plan.priority,
            weight: plan.weight,
            most_waiting: plan.queue.max_requests,
        };
        Self {
            request,
            model: Arc::clone(model),
            work,
            claim: Arc::new(claim),
            max_wait: plan.queue.max_wait,
            must_wait: false,
            since: None,
            had: None,
        }
    }

    /// Too many workers refused it that had said they have room: it waits for a change before it asks again.
    pub(crate) fn back_off(&mut self) {
        self.must_wait = true;
    }

    pub(crate) fn model(&self) -> &Arc<str> {
        &self.model
    }

    pub(crate) fn priority(&self) -> i32 {
        self.claim.priority
    }

    /// How long it has waited.
    pub(super) fn waited(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
