//! One `Watch` stream: the whole state first, then changes, and at least one message each second.

use std::sync::Arc;
use std::time::Duration;

use inferyard_engine::state::{Cursor, State};
use inferyard_proto::worker::v1::WorkerState;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::rpc::write;

/// Changes within this time are sent in one message.
const TOGETHER: Duration = Duration::from_millis(20);
/// The longest time between two messages.
const SIGN_OF_LIFE: Duration = Duration::from_millis(900);

/// Sends the state until the watcher disconnects or the worker ends.
pub(super) async fn run(
    state: Arc<State>,
    watcher: mpsc::Sender<Result<WorkerState, Status>>,
    shutdown: CancellationToken,
) {
    let mut changes = state.changes();
    let mut cursor = Cursor::default();
    for sequence in 1.. {
        // Changes from here on go into the next message.
        changes.mark_unchanged();
        let Ok(permit) = watcher.reserve().await else {
            return;
        };
        let (snapshot, prefixes) = state.observe(&mut cursor);
        permit.send(Ok(write::state(&state, sequence, &snapshot, prefixes)));
        let sent = Instant::now();
        if shutdown.is_cancelled() {
            return;
        }
        let pause = async {
            // The timeout is no error: a message is sent without a change.
            let _ = timeout(SIGN_OF_LIFE, changes.changed()).await;
            sleep_until(sent + TOGETHER).await;
        };
        tokio::select! {
            () = pause => {}
            () = watcher.closed() => return,
            () = shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use inferyard_proto::worker::v1::worker_state::Phase;

    use super::*;
    use inferyard_engine::state::{Load, PrefixChange};

    async fn next(messages: &mut mpsc::Receiver<Result<WorkerState, Status>>) -> WorkerState {
        timeout(Duration::from_secs(10), messages.recv())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_share_a_message_and_silence_is_broken() {
        let state = Arc::new(State::new("m".to_owned(), 7));
        let (sender, mut messages) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let watch = tokio::spawn(run(Arc::clone(&state), sender, shutdown.clone()));
        let first = next(&mut messages).await;
        assert_eq!((first.instance_id, first.sequence), (7, 1));
        assert!(first.prefixes.unwrap().reset);

        // The watching task cannot run before all of these are made.
        for running in 1..=3 {
            let load = Load {
                running,
                ..Load::default()
            };
            state.set_load(load, [PrefixChange::Added(running as u64)].into_iter());
        }
        let second = next(&mut messages).await;
        assert_eq!((second.sequence, second.running), (2, 3));
        let prefixes = second.prefixes.unwrap();
        assert_eq!((prefixes.reset, prefixes.added.len()), (false, 3));

        let told = Instant::now();
        let third = next(&mut messages).await;
        assert!(
            told.elapsed().as_millis().abs_diff(900) <= 1,
            "{:?}",
            told.elapsed()
        );
        assert_eq!(
            (third.sequence, third.prefixes.unwrap().added.len()),
            (3, 0)
        );

        state.set_draining();
        shutdown.cancel();
        assert_eq!(next(&mut messages).await.phase(), Phase::Draining);
        assert!(messages.recv().await.is_none());
        watch.await.unwrap();
    }
}
