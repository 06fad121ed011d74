//! The workers that a decision considered, with their costs, for explanations.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Cost;

/// A worker and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The worker's address.
    #[serde(serialize_with = "text")]
    pub worker: Arc<str>,
    /// The verdict on it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Why a worker was or was not eligible.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It can take the request at this cost.
    Able(Cost),
    /// It is ready, but has no room; the cost if it had.
    Full(Cost),
    /// It failed this request before, or is reserved for a request that was skipped too often.
    Tried,
    /// It failed several requests in a row, or reports a failing engine, and other workers are available.
    Ejected,
    /// It is loading, draining or unreachable, or serves another model.
    Unready,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
