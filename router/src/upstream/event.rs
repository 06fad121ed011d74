//! What a request against the workers tells its consumer.

use std::sync::Arc;

use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Admitted, Usage};

use super::cancellation::PendingUsage;
use super::error::DispatchError;
use super::stream::Broken;
use crate::place::Decided;
use crate::reserve::Need;

/// What happens to a request, in order.
pub(crate) enum UpstreamEvent {
    /// It has a place on a worker, for these reasons. Told only where it was asked for.
    Placed(Arc<Decided>),
    /// A worker is asked, in this life of it; what another one did is void.
    Attempt { boot_id: u64, pending: PendingUsage },
    /// The worker has counted the prompt.
    Admitted(Admitted),
    /// Nothing came of the attempt, which used this. Another one follows, or an error.
    AttemptFailed(Usage),
    /// The reservation is changed to this need.
    Reserved(Need),
    /// An event of the answer. No other worker takes over after the first one.
    Answer(Event),
}

/// Why there is no answer, or no rest of it.
#[derive(Debug)]
pub(crate) struct UpstreamError {
    pub(crate) error: DispatchError,
    /// What was used until then, where the worker says so.
    pub(crate) usage: Option<Usage>,
}

// === impl UpstreamError ===

impl From<DispatchError> for UpstreamError {
    fn from(error: DispatchError) -> Self {
        Self { error, usage: None }
    }
}

impl From<Broken> for UpstreamError {
    fn from(broken: Broken) -> Self {
        Self {
            error: broken.error.into(),
            usage: broken.usage,
        }
    }
}
