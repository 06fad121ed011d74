//! Over gRPC, as a router asks.

use inferyard_engine_simulated::Config;
use inferyard_proto::worker::v1 as proto;
use proto::worker_client::WorkerClient;
use tonic::transport::Endpoint;

use crate::harness::{prompt, read, start_as, with_answer, within};

#[tokio::test]
async fn a_router_gets_its_answer_and_sees_what_it_talks_to() {
    let worker = start_as(Config::instant(), |_| ()).await;
    let endpoint = Endpoint::from_shared(worker.uri.clone()).unwrap();
    let mut client = WorkerClient::new(endpoint.connect().await.unwrap());
    let request = proto::GenerateRequest {
        prefix_blocks: vec![1, 2, 3],
        ..with_answer(1_000, 2_000)
    };
    let events = client.generate(request).await.unwrap().into_inner();
    let answer = read(events).await;
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (1_000, 0));
    assert_eq!(answer.only().tokens.len(), 2_000);
    let mut states = client
        .watch(proto::WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    let state = within(states.message()).await.unwrap().unwrap();
    assert_eq!(
        (state.note.as_str(), state.model.as_str()),
        ("simulated engine", "m")
    );
    let capacity = state.capacity.unwrap();
    assert_eq!(
        (capacity.max_running, capacity.kv_total_tokens),
        (256, 1_000_000)
    );
    assert_eq!(state.prefixes.unwrap().added.len(), 3);
    assert_eq!(state.completion_tokens_total, 2_000);
}

#[tokio::test]
async fn many_streams_at_once_are_all_complete() {
    let worker = start_as(Config::instant(), |setup| {
        setup.engine.limits.max_running = 16;
    })
    .await;
    let endpoint = Endpoint::from_shared(worker.uri.clone()).unwrap();
    let client = WorkerClient::new(endpoint.connect().await.unwrap());
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut client = client.clone();
        readers.spawn(async move {
            let events = client.generate(prompt(100)).await.unwrap().into_inner();
            read(events).await.only().tokens.len()
        });
    }
    assert_eq!(within(readers.join_all()).await, [64; 64]);
    worker.shut_down();
    worker.ended().await;
}
