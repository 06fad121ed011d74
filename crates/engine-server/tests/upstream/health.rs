//! An engine that says it is up and fails its requests: told to routers, and used again once it answers.

use std::time::Duration;

use inferyard_engine_server::ServerKind;
use inferyard_proto::worker::v1 as wire;
use tonic_health::pb::health_check_response::ServingStatus;
use wire::failed::Kind;
use wire::worker_state::Phase;

use crate::harness::{Fixture, VLLM, about, chat, vllm, within};
use crate::server::{Asked, Play, Server, Then};

const TOKEN: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tick \"}}]}\n\n";
const TEXT: &[u8] =
    b"data: {\"choices\":[{\"index\":0,\"text\":\"K\",\"finish_reason\":\"length\"}]}\n\n\
    data: [DONE]\n\n";
const WHOLE: &[u8] = include_bytes!("../recordings/upstream/vllm-content.sse");

async fn unhealthy(fixture: &Fixture) -> wire::WorkerState {
    fixture
        .wait_for(|state| state.phase() == Phase::Unhealthy)
        .await
}

/// The next request that the worker makes of its own.
async fn probe(server: &mut Server) -> Asked {
    loop {
        let asked = within(server.asked.recv()).await.unwrap();
        if asked.path == "/v1/completions" {
            return asked;
        }
    }
}

#[tokio::test]
async fn three_failures_in_a_row_are_told_and_an_answer_ends_it() {
    for broken in [
        Play::json(500, "{}"),
        Play::stream(TOKEN).then(Then::Break),
        Play::stream(b"data: nonsense\n\n"),
        Play::json(404, "{}"),
    ] {
        let (mut server, fixture) = vllm().await;
        for _ in 0..3 {
            assert_eq!(fixture.ready().await.note, "");
            server.play(broken.clone());
            fixture.ask(chat("hi")).await.failed.unwrap();
        }
        let state = unhealthy(&fixture).await;
        assert!(
            state
                .note
                .contains(" failed 3 requests in a row: the engine "),
            "{}",
            state.note
        );
        fixture.wait_health("", ServingStatus::NotServing).await;
        fixture
            .wait_health("liveness", ServingStatus::Serving)
            .await;
        // What the engine answers to nobody else ends it: the test's default is 500.
        let asked = probe(&mut server).await;
        assert_eq!(asked.body["max_tokens"], 2);
        server.play(Play::stream(TEXT));
        let state = fixture.ready().await;
        assert_eq!(state.note, "");
        fixture.wait_health("", ServingStatus::Serving).await;
        // That was nobody's request.
        let failed_tokens = state.completion_tokens_total;
        assert!(failed_tokens <= 3, "{failed_tokens}");
        assert_eq!(state.open_requests, 0);
    }
}

#[tokio::test]
async fn an_engine_that_breaks_off_after_its_first_token_proves_nothing_by_one() {
    let (mut server, fixture) = vllm().await;
    for _ in 0..3 {
        server.play(Play::stream(TOKEN).then(Then::Break));
        fixture.ask(chat("hi")).await.failed.unwrap();
    }
    unhealthy(&fixture).await;
    for _ in 0..2 {
        server.play(Play::stream(TOKEN).then(Then::Break));
        probe(&mut server).await;
        let state = fixture.wait_for(|_| true).await;
        assert_eq!(state.phase(), Phase::Unhealthy);
    }
}

#[tokio::test]
async fn a_refusal_of_the_callers_fault_tells_nothing() {
    let (server, fixture) = vllm().await;
    for _ in 0..2 {
        fixture.ask(chat("hi")).await.failed.unwrap();
        fixture.ask(chat("hi")).await.failed.unwrap();
        for (status, kind) in [
            (400, Kind::InvalidRequest),
            (422, Kind::InvalidRequest),
            (429, Kind::Overloaded),
            (503, Kind::Overloaded),
        ] {
            server.play(Play::json(status, "{}"));
            let failed = fixture.ask(chat("hi")).await.failed.unwrap();
            assert_eq!(failed.kind(), kind);
        }
        assert_eq!(fixture.ready().await.note, "");
        server.play(Play::stream(WHOLE));
        fixture.ask(chat("hi")).await.only();
    }
}

#[tokio::test]
async fn an_unhealthy_worker_still_takes_what_nobody_else_takes() {
    let (server, fixture) = vllm().await;
    for _ in 0..3 {
        fixture.ask(chat("hi")).await.failed.unwrap();
    }
    unhealthy(&fixture).await;
    loop {
        // One of these is the worker's own.
        server.play(Play::stream(WHOLE));
        let answer = fixture.ask(chat("hi")).await;
        if answer.failed.is_none() {
            answer.only();
            break;
        }
    }
    fixture.ready().await;
}

#[tokio::test]
async fn an_engine_that_produces_nothing_while_requests_run_is_told() {
    let server = Server::start(about(VLLM)).await;
    let fixture = Fixture::start(server.address, ServerKind::Vllm, |setup| {
        setup.engine.stall_timeout = Duration::from_millis(200);
    })
    .await;
    let mut server = server;
    fixture.ready().await;
    server.play(Play::stream(TOKEN).then(Then::Hang));
    let mut events = fixture.send(chat("hi")).await;
    within(events.message()).await.unwrap().unwrap();
    let state = unhealthy(&fixture).await;
    assert!(
        state.note.contains(" produced no token for "),
        "{}",
        state.note
    );
    assert_eq!(state.running, 1, "what runs goes on");
    drop(events);
    within(server.left.recv()).await.unwrap();
    fixture.wait_for(|state| state.running == 0).await;
    server.play(Play::stream(TEXT));
    fixture.ready().await;
}
