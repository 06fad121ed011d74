//! A request that waits in the queue until a worker has room.

use std::sync::Arc;

use inferyard_placement::WaiterId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::EndpointPool;
use crate::place::PlaceError;
use crate::place::Placed;

/// The result for a request that waited.
pub(in crate::place) type QueueOutcome = Result<Placed, PlaceError>;

/// A place in the queue of an endpoint pool; dropping it leaves the queue.
pub(in crate::place) struct Wait {
    endpoints: Arc<EndpointPool>,
    id: WaiterId,
    told: oneshot::Receiver<QueueOutcome>,
}

// === impl Wait ===

impl Wait {
    pub(in crate::place) fn new(
        endpoints: &Arc<EndpointPool>,
        id: WaiterId,
        told: oneshot::Receiver<QueueOutcome>,
    ) -> Self {
        Self {
            endpoints: Arc::clone(endpoints),
            id,
            told,
        }
    }

    pub(in crate::place) fn id(&self) -> WaiterId {
        self.id
    }

    /// Waits for the result until `end`; `None`: none has come by then.
    pub(in crate::place) async fn until(mut self, end: Instant) -> Option<QueueOutcome> {
        if let Ok(told) = timeout_at(end, &mut self.told).await {
            return Some(told.unwrap_or(Err(PlaceError::NoWorker)));
        }
        self.endpoints.leave(self.id);
        // The result may have been sent at the same moment. If it is sent only after this check, the receiver is
        // gone, and the failed send frees the slot.
        self.told.try_recv().ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.endpoints.leave(self.id);
    }
}
