//! What those who watch see.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{CancelRequest, WatchRequest, WorkerState, worker_state::Phase};
use tonic::{Code, Streaming};

use super::*;

async fn until(
    states: &mut Streaming<WorkerState>,
    condition: impl Fn(&WorkerState) -> bool,
) -> WorkerState {
    let wait = async {
        loop {
            let state = states.message().await.unwrap().expect("it should go on");
            if condition(&state) {
                break state;
            }
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("the state should come")
}

#[tokio::test]
async fn progress_and_what_it_waits_for_are_told() {
    let bytes = content(900_000, 1);
    let (up, whole) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (is_up, is_whole, original) = (Arc::clone(&up), Arc::clone(&whole), bytes.clone());
    let server = Server::start(move |_, asked| {
        let reply = Reply::file(asked, &original, "\"1\"");
        match (is_up.load(SeqCst), is_whole.load(SeqCst)) {
            (true, false) if asked.from().is_none() => reply.cut(450_000),
            (true, true) => reply,
            _ => Reply::status(503),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(plain(&server, Some(&sha256(&bytes))), folder.path());
    let listen = "127.0.0.1:0".parse().unwrap();
    let fetch = Fetch::bind(config, Some(&listen)).await.unwrap();
    let address = format!("http://{}", fetch.address().unwrap());
    let running = tokio::spawn(fetch.run(CancellationToken::new()));
    let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
    let mut client = WorkerClient::new(endpoint.connect().await.unwrap());
    let mut states = client.watch(WatchRequest {}).await.unwrap().into_inner();

    let waiting = until(&mut states, |state| {
        !state.note.is_empty() && state.note.contains("503")
    })
    .await;
    assert!(
        waiting.note.starts_with("retrying in 1 s: 127.0.0.1:"),
        "{}",
        waiting.note
    );
    assert_eq!(waiting.phase(), Phase::Loading);
    let refused = client.cancel(CancelRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    up.store(true, SeqCst);
    let half = until(&mut states, |state| {
        state.fetch.is_some_and(|fetch| fetch.bytes_done == 450_000)
    })
    .await;
    let fetch = half.fetch.unwrap();
    assert_eq!(fetch.bytes_total, 900_000);
    assert_eq!(half.load_progress.to_bits(), 0.5_f32.to_bits());
    assert_eq!(half.instance_id, waiting.instance_id);
    assert!(half.sequence > waiting.sequence);

    whole.store(true, SeqCst);
    let done = timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(done.bytes, 900_000);
    let end = async { while let Ok(Some(_)) = states.message().await {} };
    timeout(PATIENCE, end)
        .await
        .expect("the stream should end with the fetch");
}
