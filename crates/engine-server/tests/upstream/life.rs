//! The engine comes, tells what it is, goes, and comes back.

use std::net::SocketAddr;

use inferyard_engine_server::ServerKind;
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_worker::RunError;
use tokio::net::TcpListener;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::harness::{Fixture, Setup, VLLM, about, chat, vllm};
use crate::server::{Play, Server};

const WHOLE: &[u8] = include_bytes!("../recordings/upstream/vllm-content.sse");

/// An address without a listener.
async fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_worker_loads_until_its_engine_is_up() {
    let address = unused_address().await;
    let fixture = Fixture::start(address, ServerKind::Vllm, |_| ()).await;
    let state = fixture.wait_for(|state| !state.note.is_empty()).await;
    assert_eq!(state.phase(), Phase::Loading);
    let note = format!("waiting for the engine at http://{address}: connection refused");
    assert_eq!(state.note, note);
    fixture
        .wait_health("liveness", ServingStatus::Serving)
        .await;
    fixture.wait_health("", ServingStatus::NotServing).await;

    let server = Server::start_on(address, about(VLLM)).await;
    let state = fixture.ready().await;
    assert_eq!(state.note, "");
    assert_eq!(state.capacity.unwrap().context_length, 4096);
    assert_eq!(state.capacity.unwrap().max_running, 256);
    fixture.wait_health("", ServingStatus::Serving).await;
    server.play(Play::stream(WHOLE));
    fixture.ask(chat("hi")).await.only();
}

#[tokio::test]
async fn an_engine_that_dies_is_told_and_waited_for() {
    let (server, fixture) = vllm().await;
    let address = server.kill().await;
    let state = fixture
        .wait_for(|state| state.phase() == Phase::Loading)
        .await;
    let note = format!("the engine at http://{address} does not answer: connection refused");
    assert_eq!(state.note, note);
    fixture.wait_health("", ServingStatus::NotServing).await;
    fixture
        .wait_health("liveness", ServingStatus::Serving)
        .await;

    let server = Server::start_on(address, about(VLLM)).await;
    fixture.ready().await;
    fixture.wait_health("", ServingStatus::Serving).await;
    server.play(Play::stream(WHOLE));
    fixture.ask(chat("hi")).await.only();
    fixture.shut_down();
    fixture.ended().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_waits_can_be_stopped() {
    let fixture = Fixture::start(unused_address().await, ServerKind::OpenAi, |_| ()).await;
    fixture.wait_for(|state| !state.note.is_empty()).await;
    fixture.shut_down();
    fixture.ended().await.unwrap();
}

#[tokio::test]
async fn a_model_that_the_engine_does_not_serve_ends_the_worker() {
    let wanted = |setup: &mut Setup| setup.engine.served_model = Some("other".to_owned());
    let server = Server::start(about(VLLM)).await;
    let fixture = Fixture::start(server.address, ServerKind::Vllm, wanted).await;
    let error = fixture.ended().await.unwrap_err();
    let RunError::Load(error) = error else {
        panic!("{error}");
    };
    let told = error.to_string();
    assert!(
        told.contains(r#"does not serve "other"; it serves "tiny""#),
        "{told}"
    );

    // A server that lists nothing is believed to know the name.
    let server = Server::start(about(r#"{"data":[]}"#)).await;
    let fixture = Fixture::start(server.address, ServerKind::OpenAi, wanted).await;
    fixture.ready().await;
    let fixture = Fixture::start(server.address, ServerKind::OpenAi, |_| ()).await;
    let told = fixture.ended().await.unwrap_err();
    let RunError::Load(told) = told else {
        panic!("{told}");
    };
    assert!(told.to_string().contains("--engine-model"), "{told}");
}

#[tokio::test]
async fn figures_of_the_engine_are_the_workers() {
    let metrics = |waiting: u32, usage: f32| {
        format!(
            "vllm:num_requests_waiting{{engine=\"0\"}} {waiting}\n\
             vllm:kv_cache_usage_perc{{engine=\"0\"}} {usage}\n\
             vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"1000\"}} 1.0\n"
        )
    };
    let mut described = about(VLLM);
    described.metrics = Some(metrics(0, 0.0));
    let server = Server::start(described).await;
    let fixture = Fixture::start(server.address, ServerKind::Vllm, |_| ()).await;
    let state = fixture.ready().await;
    assert_eq!(state.capacity.unwrap().kv_total_tokens, 16_000);
    server.play(Play::stream(b"").then(crate::server::Then::Hang));
    let _running = fixture.send(chat("hi")).await;
    fixture.wait_for(|state| state.running == 1).await;
    server.set_metrics(&metrics(1, 0.25));
    let state = fixture.wait_for(|state| state.kv_used_tokens > 0).await;
    assert_eq!(
        (state.kv_used_tokens, state.running, state.queued),
        (4_000, 0, 1)
    );
}
