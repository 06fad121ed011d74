//! A request that waits until a worker has room for it.

use std::sync::Arc;

use inferyard_placement::WaiterId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Crew;
use crate::place::PlaceError;
use crate::place::Placed;

/// What a request is told that waits.
pub(in crate::place) type Told = Result<Placed, PlaceError>;

/// A place in the line of a crew; dropping it leaves the line.
pub(in crate::place) struct Wait {
    crew: Arc<Crew>,
    id: WaiterId,
    told: oneshot::Receiver<Told>,
}

// === impl Wait ===

impl Wait {
    pub(in crate::place) fn new(
        crew: &Arc<Crew>,
        id: WaiterId,
        told: oneshot::Receiver<Told>,
    ) -> Self {
        Self {
            crew: Arc::clone(crew),
            id,
            told,
        }
    }

    pub(in crate::place) fn id(&self) -> WaiterId {
        self.id
    }

    /// Waits for its turn; `None`: it has not come by then.
    pub(in crate::place) async fn until(mut self, end: Instant) -> Option<Told> {
        if let Ok(told) = timeout_at(end, &mut self.told).await {
            return Some(told.unwrap_or(Err(PlaceError::NoWorker)));
        }
        self.crew.leave(self.id);
        // Its turn may have come at the same moment.
        self.told.try_recv().ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.crew.leave(self.id);
    }
}
