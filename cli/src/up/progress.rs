//! Follows the loading progress of a worker over its gRPC `Watch` stream, across restarts.

use std::time::Duration;

use inferyard_proto::worker::v1::{WatchRequest, worker_state::Phase};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::fleet::Worker;
use crate::dial;

/// Between two attempts to reach a worker, which starts in a few milliseconds.
const PAUSE: Duration = Duration::from_millis(25);

/// The least progress, as a fraction, that gets a line of its own.
const STEP: f32 = 0.1;

/// Follows a worker until cancelled.
pub(super) async fn follow(
    index: usize,
    worker: Worker,
    stop: CancellationToken,
    events: mpsc::Sender<Event>,
) {
    let forever = async {
        loop {
            // An error means that the process exited, and the task that waits for it reports that.
            follow_once(index, &worker, &events).await.ok();
            sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(forever).await;
}

/// Follows a worker until its stream ends.
async fn follow_once(
    index: usize,
    worker: &Worker,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<()> {
    let mut client = dial::worker(&worker.endpoint).await?;
    let mut states = client.watch(WatchRequest {}).await?.into_inner();
    let mut shown = None;
    while let Some(state) = states.message().await? {
        match state.phase() {
            Phase::Loading if shown.is_none_or(|shown| state.load_progress >= shown + STEP) => {
                shown = Some(state.load_progress);
                let percent = (100.0 * state.load_progress).round();
                tracing::info!("{}: loading, {percent} %", worker.process.name);
            }
            Phase::Ready => {
                worker.process.mark_started_once();
                tracing::info!("{}: ready", worker.process.name);
                events.send(Event::WorkerReady(index)).await?;
                break;
            }
            _ => {}
        }
    }
    // There is no progress left to show. The stream is read on, because its end is the exit of the worker.
    while states.message().await?.is_some() {}
    Ok(())
}
