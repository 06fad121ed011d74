//! A request that ends its engine is sent once, and told apart from an engine that was not there.

use inferyard_proto::worker::v1 as wire;
use wire::failed::Kind;

use crate::harness::{Fixture, chat, read, vllm, within};
use crate::server::{Play, Server, Then};

const TOKEN: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tick \"}}]}\n\n";
const WHOLE: &[u8] = include_bytes!("../recordings/upstream/vllm-content.sse");

/// An engine that has answered a request, whose connection is kept.
async fn warm() -> (Server, Fixture) {
    let (mut server, fixture) = vllm().await;
    server.play(Play::stream(WHOLE));
    fixture.ask(chat("warm")).await.only();
    within(server.asked.recv()).await.unwrap();
    (server, fixture)
}

async fn failed(events: tonic::Streaming<wire::GenerateEvent>) -> Kind {
    read(events).await.failed.unwrap().kind()
}

#[tokio::test]
async fn an_engine_that_ends_over_a_kept_connection_had_the_request() {
    // Before any byte of an answer, and after the first token.
    for play in [
        Play::stream(b"").then(Then::Mute),
        Play::stream(TOKEN).then(Then::Hang),
    ] {
        let (mut server, fixture) = warm().await;
        server.play(play);
        let events = fixture.send(chat("POISON")).await;
        within(server.asked.recv()).await.unwrap();
        fixture.wait_for(|state| state.running == 1).await;
        server.kill().await;
        assert_eq!(failed(events).await, Kind::EngineCrashed);
    }
}

#[tokio::test]
async fn a_request_over_which_a_connection_broke_is_not_sent_again() {
    let (mut server, fixture) = warm().await;
    server.play(Play::stream(b"").then(Then::Drop));
    server.play(Play::stream(WHOLE));
    let kind = fixture.ask(chat("POISON")).await.failed.unwrap().kind();
    assert_eq!(kind, Kind::EngineCrashed);
    within(server.asked.recv()).await.unwrap();
    assert!(server.asked.try_recv().is_err(), "it is sent once");
    // The engine lives, and serves the next one over a new connection.
    fixture.ask(chat("hi")).await.only();
}

#[tokio::test]
async fn of_several_requests_none_is_known_to_have_ended_the_engine() {
    let (server, fixture) = warm().await;
    let mut all = Vec::new();
    for running in 1..=3 {
        server.play(Play::stream(b"").then(Then::Mute));
        all.push(fixture.send(chat("hi")).await);
        fixture.wait_for(|state| state.running == running).await;
    }
    server.kill().await;
    for events in all {
        assert_eq!(failed(events).await, Kind::Internal);
    }
}

#[tokio::test]
async fn an_engine_that_closes_idle_connections_is_asked_over_a_new_one() {
    let (server, fixture) = warm().await;
    // All connections are cut while nothing runs, and another process takes the place.
    let address = server.kill().await;
    let mut server = Server::start_on(address, crate::harness::about(crate::harness::VLLM)).await;
    fixture.ready().await;
    server.play(Play::stream(WHOLE));
    fixture.ask(chat("hi")).await.only();
    within(server.asked.recv()).await.unwrap();
    assert!(server.asked.try_recv().is_err());
}
