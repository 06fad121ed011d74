//! Step 5: picks the worker with the least expected time to the first token.

use std::sync::Arc;

use tokio::time::Instant;

mod error;
mod crew;
mod fleet;
mod follow;
mod journal;
mod recorder;
mod seeker;
mod worker;

pub(crate) use crew::Lengths;
pub(crate) use crew::Slot;
pub(crate) use error::PlaceError;
pub(crate) use fleet::Fleet;
pub(crate) use inferyard_placement::{Outcome, Standing};
pub(crate) use journal::{Decided, Journal};
pub use recorder::RecordError;
pub(crate) use seeker::Seeker;
pub(crate) use worker::Worker;

use crew::Found;

/// A request's place on a worker; given back when it is dropped.
pub(crate) struct Placed {
    pub(crate) slot: Slot,
    /// Whether the worker already holds a part of the prompt.
    pub(crate) cached: bool,
    /// Why it is this place.
    pub(crate) decided: Arc<Decided>,
}

/// Places a request on the best worker that has room and was not tried. Where all are full, it waits for its
/// turn, as long as its plan lets it; dropped, it waits no longer.
#[tracing::instrument(level = "debug", skip_all, fields(model = &*seeker.model, worker))]
pub(crate) async fn place(
    fleet: &Fleet,
    seeker: &mut Seeker,
    tried: &[Arc<Worker>],
) -> Result<Placed, PlaceError> {
    let crew = fleet.crew(&seeker.model).ok_or(PlaceError::NoWorker)?;
    let placed = match crew.seek(seeker, tried)? {
        Found::Placed(placed) => placed,
        Found::Wait(wait) => {
            let since = *seeker.since.get_or_insert_with(Instant::now);
            seeker.had = Some(wait.id());
            seeker.must_wait = false;
            let told = wait.until(since + seeker.max_wait).await;
            told.unwrap_or_else(|| Err(crew.time_is_over(seeker)))?
        }
    };
    fleet.journal().enter(Arc::clone(&placed.decided));
    let worker = placed.slot.worker().endpoint();
    tracing::Span::current().record("worker", tracing::field::display(worker));
    Ok(placed)
}
