//! From start to end: loading, health, draining, and clear words when it cannot be.

use std::time::Duration;

use inferyard_engine_embedded as embedded;
use inferyard_proto::worker::v1 as wire;
use inferyard_worker::{Config, Listen, Worker};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use wire::failed::Kind;
use wire::worker_state::Phase;

use crate::harness::{Server, chat, connect, read, scrape, within};

async fn health(server: &Server, service: &str) -> ServingStatus {
    let mut client = HealthClient::new(connect(&server.uri).await);
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn a_ready_worker_says_what_it_can_do() {
    let server = Server::start().await;
    let state = server.wait_for(|state| state.phase() == Phase::Ready).await;
    assert_eq!(state.model, "demo");
    assert!(state.instance_id != 0);
    assert!((state.load_progress - 1.0).abs() < f32::EPSILON);
    let capacity = state.capacity.unwrap();
    assert_eq!((capacity.max_running, capacity.max_queued), (16, 256));
    assert_eq!(
        (capacity.kv_total_tokens, capacity.context_length),
        (16_384, 4_096)
    );
    // What the router assumes of an empty conversation is what the worker counts of one.
    let empty = server.ask(chat("")).await;
    assert_eq!(
        capacity.template_tokens,
        empty.admitted.unwrap().prompt_tokens
    );
    server.ask(chat("Reply with: x")).await;
    let state = server
        .wait_for(|state| state.decode_tokens_per_second > 0.0)
        .await;
    assert!(state.prefill_tokens_per_second > 0.0);
    for service in ["", "inferyard.worker.v1.Worker"] {
        assert_eq!(health(&server, service).await, ServingStatus::Serving);
    }
}

#[tokio::test]
async fn a_silent_worker_gives_signs_of_life() {
    let server = Server::start().await;
    let mut states = server.watch().await;
    let mut last = within(states.message()).await.unwrap().unwrap();
    for _ in 0..2 {
        let next = within(states.message()).await.unwrap().unwrap();
        assert_eq!(next.sequence, last.sequence + 1);
        assert_eq!(next.instance_id, last.instance_id);
        last = next;
    }
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_the_rest() {
    let server = Server::start_with(|setup| {
        setup.engine.limits.max_running = 1;
        setup.worker.drain_timeout = Duration::from_hours(1);
    })
    .await;
    let running = server
        .send(wire::GenerateRequest {
            max_tokens: Some(2_000),
            ..chat("Repeat: tick")
        })
        .await;
    server.wait_for(|state| state.running == 1).await;
    let waiting = server.send(chat("Reply with: x")).await;
    server.wait_for(|state| state.queued == 1).await;
    let mut states = server.watch().await;
    server.shut_down();
    assert_eq!(read(waiting).await.failed.unwrap().kind(), Kind::Draining);
    assert_eq!(read(running).await.only().tokens.len(), 2_000);
    let mut last = None;
    while let Some(state) = within(states.message()).await.unwrap() {
        last = Some(state);
    }
    let last = last.unwrap();
    assert_eq!((last.phase(), last.running), (Phase::Draining, 0));
    server.ended().await.unwrap();
}

#[tokio::test]
async fn draining_has_an_end() {
    let server = Server::start_with(|setup| setup.worker.drain_timeout = Duration::ZERO).await;
    let running = server.send(chat("Repeat: tick")).await;
    server.wait_for(|state| state.running == 1).await;
    server.shut_down();
    let failed = read(running).await.failed.unwrap();
    assert_eq!(failed.kind(), Kind::Draining);
    assert!(failed.usage.unwrap().prompt_tokens > 0);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_model_is_named() {
    for (content, expect) in [("not a model", "not a GGUF file"), ("GGUF", "cannot load")] {
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("broken.gguf");
        std::fs::write(&gguf, content).unwrap();
        let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let worker = Worker::bind(Config::new(listen, "m")).await.unwrap();
        let engine = embedded::Config::new(&gguf);
        let error = within(worker.run(engine, CancellationToken::new()))
            .await
            .unwrap_err();
        let error = with_causes(&error);
        assert!(
            error.contains("broken.gguf") && error.contains(expect),
            "{error}"
        );
    }
    let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let worker = Worker::bind(Config::new(listen, "m")).await.unwrap();
    let engine = embedded::Config::new("/no/such.gguf");
    let error = within(worker.run(engine, CancellationToken::new()))
        .await
        .unwrap_err();
    let error = with_causes(&error);
    assert!(
        error.contains("/no/such.gguf") && error.contains("No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("demo.gguf");
    std::fs::write(&gguf, inferyard_demo_model::GGUF).unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    let mut config = Config::new(Listen::Tcp(any), "demo");
    config.metrics = Some(any);
    let worker = Worker::bind(config).await.unwrap();
    let metrics = worker.metrics_address().unwrap();
    let uri = format!("http://{}", worker.address());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker.run(embedded::Config::new(gguf), shutdown.clone()));
    let mut client = wire::worker_client::WorkerClient::new(connect(&uri).await);
    let answer = loop {
        let events = client
            .generate(chat("Reply with: x"))
            .await
            .unwrap()
            .into_inner();
        let answer = read(events).await;
        let loading = |failed: &wire::Failed| failed.kind() == Kind::Loading;
        if !answer.failed.as_ref().is_some_and(loading) {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    let expected = answer.usage.unwrap().completion_tokens;
    let text = scrape(metrics).await;
    let line = format!("inferyard_worker_completion_tokens_total {expected}");
    assert!(
        text.lines().any(|found| found == line),
        "{line} is not in\n{text}"
    );
    shutdown.cancel();
    within(running).await.unwrap().unwrap();
}

/// An error as the command line prints it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    words.join(": ")
}
