//! Rows of the error table for models that get no workers.

use inferyard_catalog::Stopped;

use super::row::{Retry, Row};
use crate::stopped::StoppedError;

/// Retries do not help until the model's manifest changes.
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
