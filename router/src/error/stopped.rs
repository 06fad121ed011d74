//! A model that gets no workers, and its rows of the error table.

use super::row::{Retry, Row};
use inferyard_catalog::{Model, Stopped};

/// The model gets no workers until somebody changes what is declared.
#[derive(Debug, thiserror::Error)]
#[error("the model is stopped: {why:?}")]
pub(crate) struct StoppedError {
    /// As the client named it.
    model: String,
    /// Why.
    why: Stopped,
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

/// Waiting does not help: somebody has to change what is declared.
pub(super) fn row(error: &StoppedError) -> Row<'static> {
    let StoppedError { model, why } = error;
    let (label, message) = match why {
        Stopped::ScaledToZero => (
            "model_stopped",
            format!(
                "The model `{model}` is stopped: it is scaled to 0 workers. It answers again once those who run it \
                 start some."
            ),
        ),
        Stopped::Refused { reason } => (
            "model_refused",
            format!(
                "The model `{model}` is not served, because its declaration is refused ({reason}). Those who run it \
                 find out why in the status of its ModelDeployment."
            ),
        ),
    };
    Row {
        retry: Some(Retry::NEVER),
        ..Row::refused(label, message)
    }
}
