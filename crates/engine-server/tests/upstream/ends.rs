//! Requests that end before the engine is done with them, and those that wait for their turn.

use std::time::Duration;

use inferyard_engine_server::ServerKind;
use inferyard_proto::worker::v1 as wire;
use wire::failed::Kind;

use crate::harness::{Fixture, Setup, VLLM, about, chat, read, vllm, within};
use crate::server::{Play, Server, Then};

const TOKEN: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tick \"}}]}\n\n";
const WHOLE: &[u8] = include_bytes!("../recordings/upstream/vllm-content.sse");

async fn vllm_with(configure: impl FnOnce(&mut Setup)) -> (Server, Fixture) {
    let server = Server::start(about(VLLM)).await;
    let fixture = Fixture::start(server.address, ServerKind::Vllm, configure).await;
    fixture.ready().await;
    (server, fixture)
}

#[tokio::test]
async fn a_reader_that_leaves_closes_the_engines_connection() {
    // Before the first chunk, and after it.
    for said in [b"".as_slice(), TOKEN] {
        let (mut server, fixture) = vllm().await;
        server.play(Play::stream(said).then(Then::Hang));
        let mut events = fixture.send(chat("hi")).await;
        if said.is_empty() {
            fixture.wait_for(|state| state.running == 1).await;
            within(server.asked.recv()).await.unwrap();
        } else {
            within(events.message()).await.unwrap().unwrap();
        }
        drop(events);
        within(server.left.recv()).await.unwrap();
        let state = fixture.wait_for(|state| state.running == 0).await;
        assert_eq!(state.open_requests, 0);
        assert_eq!(
            state.dropped_completion_tokens_total,
            u64::from(!said.is_empty())
        );
    }
}

#[tokio::test]
async fn a_request_that_is_cancelled_says_what_it_used() {
    let (mut server, fixture) = vllm_with(|setup| setup.engine.limits.max_running = 1).await;
    server.play(Play::stream(TOKEN).then(Then::Hang));
    let mut running = fixture.send(chat("hi")).await;
    within(running.message()).await.unwrap().unwrap();
    fixture.cancel().await;
    let failed = loop {
        let event = within(running.message()).await.unwrap().unwrap().event;
        if let Some(wire::generate_event::Event::Failed(failed)) = event {
            break failed;
        }
    };
    assert_eq!(failed.kind(), Kind::Cancelled);
    assert_eq!(failed.usage.unwrap().completion_tokens, 1);
    within(server.left.recv()).await.unwrap();

    // In the line.
    server.play(Play::stream(TOKEN).then(Then::Hang));
    let _running = fixture.send(chat("hi")).await;
    fixture.wait_for(|state| state.running == 1).await;
    let waiting = fixture.send(chat("hi")).await;
    fixture.wait_for(|state| state.queued == 1).await;
    fixture.cancel().await;
    let failed = read(waiting).await.failed.unwrap();
    assert_eq!(failed.kind(), Kind::Cancelled);
    assert_eq!(failed.usage.unwrap(), wire::Usage::default());
}

#[tokio::test]
async fn a_deadline_closes_the_engines_connection() {
    let (mut server, fixture) = vllm().await;
    server.play(Play::stream(TOKEN).then(Then::Hang));
    let request = wire::GenerateRequest {
        deadline_ms: Some(300),
        ..chat("hi")
    };
    let failed = fixture.ask(request).await.failed.unwrap();
    assert_eq!(failed.kind(), Kind::DeadlineExceeded);
    assert_eq!(failed.usage.unwrap().completion_tokens, 1);
    within(server.left.recv()).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_cut_off_and_disturbs_nobody() {
    let patience = Duration::from_millis(500);
    let (mut server, fixture) =
        vllm_with(|setup| setup.engine.limits.slow_reader_timeout = patience).await;
    // Long ones: many small frames that nobody reads end a whole connection in the client's HTTP/2.
    let long = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "tick ".repeat(200)
    );
    server.play(Play::stream(long.as_bytes()).then(Then::Repeat));
    server.play(Play::stream(WHOLE));
    let events = fixture.send(chat("hi")).await;
    within(server.asked.recv()).await.unwrap();
    assert_eq!(
        fixture.ask(chat("hi")).await.only().content,
        "payload verified."
    );
    within(server.left.recv()).await.unwrap();
    fixture.wait_for(|state| state.running == 0).await;
    let failed = read(events).await.failed.unwrap();
    assert_eq!(failed.kind(), Kind::SlowReader);
    assert!(failed.usage.unwrap().completion_tokens > 64);
}

#[tokio::test]
async fn the_worker_keeps_its_own_line() {
    let (mut server, fixture) = vllm_with(|setup| {
        setup.engine.limits.max_running = 1;
        setup.engine.limits.max_queued = 2;
    })
    .await;
    server.play(Play::stream(TOKEN).then(Then::Hang));
    let running = fixture.send(chat("running")).await;
    fixture.wait_for(|state| state.running == 1).await;
    let low = fixture.send(chat("low")).await;
    fixture.wait_for(|state| state.queued == 1).await;
    let high = wire::GenerateRequest {
        priority: 5,
        ..chat("high")
    };
    let high = fixture.send(high).await;
    fixture.wait_for(|state| state.queued == 2).await;
    let refused = fixture.ask(chat("refused")).await.failed.unwrap();
    assert_eq!(refused.kind(), Kind::Overloaded);
    for _ in 0..2 {
        server.play(Play::stream(WHOLE));
    }
    drop(running);
    read(high).await.only();
    read(low).await.only();
    let mut order = Vec::new();
    for _ in 0..3 {
        let asked = within(server.asked.recv()).await.unwrap();
        order.push(
            asked.body["messages"][0]["content"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(order, ["running", "high", "low"]);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_the_rest() {
    let (server, fixture) = vllm_with(|setup| {
        setup.engine.limits.max_running = 1;
        setup.worker.drain_timeout = Duration::from_millis(300);
    })
    .await;
    server.play(Play::stream(TOKEN).then(Then::Hang));
    let mut running = fixture.send(chat("hi")).await;
    within(running.message()).await.unwrap().unwrap();
    let waiting = fixture.send(chat("hi")).await;
    fixture.wait_for(|state| state.queued == 1).await;
    fixture.shut_down();
    assert_eq!(read(waiting).await.failed.unwrap().kind(), Kind::Draining);
    // What outlives the drain timeout fails, and says what it has used.
    let mut last = None;
    while let Some(event) = within(running.message()).await.unwrap() {
        last = event.event;
    }
    let Some(wire::generate_event::Event::Failed(failed)) = last else {
        panic!("{last:?}");
    };
    assert_eq!(failed.kind(), Kind::Draining);
    assert_eq!(failed.usage.unwrap().completion_tokens, 1);
    drop(running);
    fixture.ended().await.unwrap();
}
