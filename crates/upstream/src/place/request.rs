//! A request that needs a worker, with its queue policy.

use std::sync::Arc;
use std::time::Duration;

use inferyard_placement::{QueuePolicy, WaiterId, Work};
use tokio::time::Instant;

use inferyard_catalog::Key;
use inferyard_domain::{ModelId, RequestId};

/// A request that needs a worker.
pub(crate) struct PlacementRequest {
    pub(super) request: RequestId,
    /// The id of the model.
    pub(super) model: ModelId,
    pub(super) work: Work,
    pub(super) policy: Arc<QueuePolicy>,
    pub(super) max_wait: Duration,
    /// Set after several workers with reported room refused it: it waits in the queue until a state changes.
    pub(super) must_wait: bool,
    /// When it first waited.
    pub(super) since: Option<Instant>,
    /// Its former place in the queue, which it gets again.
    pub(super) had: Option<WaiterId>,
}

// === impl PlacementRequest ===

impl PlacementRequest {
    pub(crate) fn new(request: RequestId, model: &ModelId, work: Work, key: &Key) -> Self {
        let plan = &key.plan;
        let policy = QueuePolicy {
            account: key.account.clone(),
            plan: plan.name.clone(),
            priority: plan.priority,
            weight: plan.weight,
            most_waiting: plan.queue.max_requests,
        };
        Self {
            request,
            model: model.clone(),
            work,
            policy: Arc::new(policy),
            max_wait: plan.queue.max_wait,
            must_wait: false,
            since: None,
            had: None,
        }
    }

    /// Makes the request wait for a state change, because too many workers with reported room refused it.
    pub(crate) fn back_off(&mut self) {
        self.must_wait = true;
    }

    pub(crate) fn model(&self) -> &ModelId {
        &self.model
    }

    pub(crate) fn priority(&self) -> i32 {
        self.policy.priority
    }

    /// How long it has waited so far.
    pub(super) fn waited(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
