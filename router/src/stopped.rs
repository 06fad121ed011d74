//! Refuses a model that gets no workers.

use inferyard_catalog::{Model, Stopped};

/// The model gets no workers until somebody changes what is declared.
#[derive(Debug, thiserror::Error)]
#[error("the model is stopped: {why:?}")]
pub(crate) struct StoppedError {
    /// As the client named it.
    pub(crate) model: String,
    /// Why.
    pub(crate) why: Stopped,
}

// === impl StoppedError ===

impl StoppedError {
    /// Refuses a model that gets no workers. `named` is what the client called it.
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
