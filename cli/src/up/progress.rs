//! What a worker says about itself while it loads, over all its lives.

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

/// Progress below this is not worth a line.
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
            // Its end has been or will be reported by the one who waits for the process.
            follow_life(index, &worker, &events).await.ok();
            sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(forever).await;
}

/// Follows one life of a worker to its end.
async fn follow_life(
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
                tracing::info!("{}: loading, {percent} %", worker.part.name);
            }
            Phase::Ready => {
                worker.part.prove();
                tracing::info!("{}: ready", worker.part.name);
                events.send(Event::Ready(index)).await?;
                break;
            }
            _ => {}
        }
    }
    // Nothing more to show; the stream stays open, and its end is the end of this life.
    while states.message().await?.is_some() {}
    Ok(())
}
