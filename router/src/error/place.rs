//! Rows of the error table for requests that no worker takes.

use std::time::Duration;

use super::row::{Retry, Row};
use inferyard_upstream::PlaceError;

/// The row of a placement error.
pub(super) fn row(error: &PlaceError) -> Row<'_> {
    match error {
        PlaceError::Loading { progress } => Row::unavailable(
            "model_loading",
            "5",
            format!(
                "The model is being loaded ({:.0} % so far). Try again in a few seconds.",
                progress.clamp(0.0, 1.0) * 100.0
            ),
        ),
        PlaceError::NoWorker => Row::unavailable(
            "no_worker",
            "5",
            "No worker of this model is available at the moment. Try again in a few seconds.",
        ),
        PlaceError::QueueFull { most, retry_after } => overloaded(
            "queue_full",
            *retry_after,
            &match most {
                0 => "All workers of this model are busy.".to_owned(),
                most => format!(
                    "All workers of this model are busy, and {most} requests of your plan wait for \
                     them already."
                ),
            },
        ),
        PlaceError::WaitOver {
            waited,
            retry_after,
        } => overloaded(
            "wait_over",
            *retry_after,
            &format!(
                "All workers of this model were busy for {} seconds, for which your plan lets a \
                 request wait.",
                waited.as_secs()
            ),
        ),
        PlaceError::ShuttingDown => Row::unavailable(
            "shutting_down",
            "1",
            "This server is shutting down. Try again: another one will answer.",
        ),
    }
}

/// The row of a full queue or a wait that is over; `retry_after` comes from the rate at which the queue moves.
fn overloaded(label: &'static str, retry_after: Duration, why: &str) -> Row<'static> {
    let seconds = retry_after.as_millis().div_ceil(1_000);
    Row {
        label,
        retry: Some(Retry {
            after: Some(retry_after),
            by_itself: true,
        }),
        ..Row::refused(
            "server_is_overloaded",
            format!("{why} Try again in {seconds} seconds."),
        )
    }
}
