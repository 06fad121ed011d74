//! What was considered in a decision: for people.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::Cost;

/// One worker, and what was thought of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Considered {
    /// Its address.
    #[serde(serialize_with = "text")]
    pub worker: Arc<str>,
    /// What was thought of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What was thought of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It could take the request at this cost.
    Able(Cost),
    /// It serves, and would have cost this, but has no room.
    Full(Cost),
    /// It failed at this request before, or is kept for one that was overtaken too often.
    Tried,
    /// It failed requests in a row, or says that its engine does, and others take this one.
    Ejected,
    /// It is loading, draining, unreachable, or serves something else.
    Unready,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
