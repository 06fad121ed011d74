//! Events of a request against the workers.

use std::sync::Arc;

use inferyard_domain::InstanceId;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Admitted, Usage};

use super::cancellation::PendingUsage;
use super::error::DispatchError;
use super::stream::Broken;
use crate::place::PlacementDecision;
use inferyard_admission::Need;

/// What happens to a request, in order.
pub enum UpstreamEvent {
    /// It has a slot on a worker, with the decision. Sent only if placements are explained.
    Placed(Arc<PlacementDecision>),
    /// It is sent to a worker; the usage of an earlier attempt is void.
    Attempt {
        /// The instance of the worker; `None`: not reported.
        instance: Option<InstanceId>,
        /// The usage of the attempt, if it is cancelled.
        pending: PendingUsage,
    },
    /// The worker has counted the prompt.
    Admitted(Admitted),
    /// The attempt failed with this usage. Another attempt or an error follows.
    AttemptFailed(Usage),
    /// The reservation was changed to this need.
    Reserved(Need),
    /// An event of the answer. No retry after the first one.
    Answer(Event),
}

/// Why there is no answer, or no rest of it.
#[derive(Debug)]
pub struct UpstreamError {
    /// The last failure.
    pub error: DispatchError,
    /// The usage so far, if the worker reported it.
    pub usage: Option<Usage>,
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
