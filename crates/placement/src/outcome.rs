//! How a request ended, as evidence of the worker's health.

use inferyard_domain::InstanceId;
use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No evidence: the client disconnected, the deadline passed, or the request was refused as invalid or for want
    /// of room.
    #[default]
    Untold,
    /// It was answered completely.
    Succeeded,
    /// The worker or its engine failed it.
    Failed,
    /// The connection to this instance of the worker broke. All requests on it at that moment count as one failure;
    /// `None`: the instance is unknown.
    Died(Option<InstanceId>),
}

// === impl Outcome ===

impl Outcome {
    /// Recordings omit this outcome.
    pub(crate) fn is_untold(&self) -> bool {
        *self == Self::Untold
    }
}
