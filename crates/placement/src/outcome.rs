//! How a request ended, as far as that tells something of the worker that had it.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In a way that tells nothing: its client left, its deadline passed, or it was refused for a fault of its
    /// own or for want of room.
    #[default]
    Untold,
    /// It was answered completely.
    Succeeded,
    /// The worker or its engine failed it.
    Failed,
    /// The worker broke off, and this was its life. All requests that it had at that moment are one failure.
    Died(u64),
}

// === impl Outcome ===

impl Outcome {
    /// For recordings, in which it is left out.
    pub(crate) fn is_untold(&self) -> bool {
        *self == Self::Untold
    }
}
