//! Refuses requests for a model that gets no workers.

use inferyard_catalog::{Model, Stopped};

/// The model gets no workers until its manifest changes.
#[derive(Debug, thiserror::Error)]
#[error("the model is stopped: {why:?}")]
pub(crate) struct StoppedError {
    /// The model's name in the request.
    pub(crate) model: String,
    /// The reason.
    pub(crate) why: Stopped,
}

// === impl StoppedError ===

impl StoppedError {
    /// Returns an error if the model gets no workers. `named` is the model's name in the request.
    pub(crate) fn check(model: &Model, named: &str) -> Result<(), Self> {
        match model.halt() {
            None => Ok(()),
            Some(why) => Err(Self {
                model: named.to_owned(),
                why: why.clone(),
            }),
        }
    }
}
