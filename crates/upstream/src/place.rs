//! Step 5: places a request on the worker with the least expected time to the first token.

use std::sync::Arc;

use tokio::time::Instant;

mod error;
mod endpoint_pool;
mod fleet;
mod follow;
mod decision_log;
mod recorder;
mod request;
mod worker;

pub use decision_log::{DecisionLog, PlacementDecision};
pub use endpoint_pool::EndpointPool;
pub(crate) use endpoint_pool::Slot;
pub use error::PlaceError;
pub use fleet::Fleet;
pub use inferyard_placement::EndpointState;
pub(crate) use inferyard_placement::Outcome;
pub use recorder::RecordError;
pub(crate) use request::PlacementRequest;
pub use worker::Worker;

use endpoint_pool::Found;

/// A slot on a worker with its decision; dropping it frees the slot.
pub(crate) struct Placed {
    pub(crate) slot: Slot,
    /// Whether the worker holds a part of the prompt in its cache.
    pub(crate) cached: bool,
    /// Why this worker was chosen.
    pub(crate) decision: Arc<PlacementDecision>,
}

/// Places a request on the best worker that has room and is not in `tried`. If all are full, the request waits in the
/// queue, up to the limit of its plan. Dropping the future leaves the queue.
///
/// # Errors
///
/// [`PlaceError`] if no worker is ready, the queue is full, or the wait is over.
#[tracing::instrument(level = "debug", skip_all, fields(model = &*placement.model, worker))]
pub(crate) async fn place(
    fleet: &Fleet,
    placement: &mut PlacementRequest,
    tried: &[Arc<Worker>],
) -> Result<Placed, PlaceError> {
    let endpoints = fleet
        .endpoints(&placement.model)
        .ok_or(PlaceError::NoWorker)?;
    let placed = match endpoints.seek(placement, tried)? {
        Found::Placed(placed) => placed,
        Found::Wait(wait) => {
            let since = *placement.since.get_or_insert_with(Instant::now);
            placement.had = Some(wait.id());
            placement.must_wait = false;
            let told = wait.until(since + placement.max_wait).await;
            told.unwrap_or_else(|| Err(endpoints.time_is_over(placement)))?
        }
    };
    fleet.decision_log().enter(Arc::clone(&placed.decision));
    let worker = placed.slot.worker().endpoint();
    tracing::Span::current().record("worker", tracing::field::display(worker));
    Ok(placed)
}
