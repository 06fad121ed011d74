//! Streams whose first token takes long send their head and comments before it.

use std::time::Duration;

use inferyard_catalog::Plan;
use inferyard_proto::worker::v1::failed::Kind;

use crate::support::{
    Bills, Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, admitted, delta, eventually,
    failed, nothing_is_left, usage,
};

const COMMENT: &str = ": waiting\n\n";
/// The head and three comments arrive at intervals of 20 ms. On a busy machine they have this time before the
/// limit under test ends the stream, so a test of that limit takes this long.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// A worker without capacity, and a router that sends a comment every 20 ms.
async fn full(change: impl FnOnce(&mut Plan)) -> (ScriptedWorker, TestRouter, Bills) {
    let worker = ScriptedWorker::start().await;
    worker.becomes(|state| {
        let capacity = state.capacity.as_mut().unwrap();
        (capacity.max_running, capacity.max_queued) = (1, 0);
        state.running = 1;
    });
    router_of(worker, change).await
}

/// A worker with capacity, and the same router.
async fn idle() -> (ScriptedWorker, TestRouter, Bills) {
    router_of(ScriptedWorker::start().await, |_| ()).await
}

async fn router_of(
    worker: ScriptedWorker,
    change: impl FnOnce(&mut Plan),
) -> (ScriptedWorker, TestRouter, Bills) {
    let (router, bills) = TestRouter::planned_and_configured(&[&worker], change, |config| {
        config.keep_alive = Duration::from_millis(20);
    })
    .await;
    (worker, router, bills)
}

async fn waiting(router: &TestRouter, count: usize) {
    let line = format!("inferyard_router_waiting_requests{{model=\"m\",priority=\"7\"}} {count}\n");
    eventually(async || router.scrape().await.contains(&line)).await;
}

/// Expects the head and three comments.
async fn stays_alive(client: &mut Connection) {
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert!(head.header("x-request-id").is_some());
    let kind = head.header("content-type").unwrap();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    for _ in 0..3 {
        assert_eq!(client.piece().await.as_deref(), Some(COMMENT));
    }
}

/// The rest of a stream without comments.
async fn frames(client: &mut Connection) -> String {
    client.rest().await.replace(COMMENT, "")
}

/// Expects an error frame with this code and nothing else, and returns its message.
async fn ends_with(client: &mut Connection, code: &str) -> String {
    let frames = frames(client).await;
    let frame = frames.strip_suffix("\n\ndata: [DONE]\n\n").unwrap();
    let error = frame.strip_prefix("data: ").unwrap();
    let error: serde_json::Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["code"].as_str().unwrap_or_default(), code);
    error["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_stream_that_waits_for_a_worker_stays_alive() {
    let (mut worker, router, mut bills) = full(|_| ()).await;
    let mut client = router.chat(STREAMED).await;
    stays_alive(&mut client).await;
    assert!(!worker.was_called());
    worker.becomes(|state| state.running = 0);
    worker.call().await.say_hello().await;
    let frames = frames(&mut client).await;
    assert!(frames.starts_with("data: {"), "{frames}");
    assert!(
        frames.contains("Hello") && frames.ends_with("data: [DONE]\n\n"),
        "{frames}"
    );
    assert!(!frames.contains("error"), "{frames}");
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (200, "ok"));
    assert_eq!((event.prompt_tokens, event.completion_tokens), (10, 2));
    assert!(event.first_token_us > 60_000, "{}", event.first_token_us);
    router.end().await;
}

#[tokio::test]
async fn a_stream_whose_prompt_takes_long_stays_alive_until_its_first_token() {
    let (mut worker, router, _bills) = idle().await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    stays_alive(&mut client).await;
    call.say(delta("Hel")).await;
    let mut piece = client.piece().await.unwrap();
    while piece == COMMENT {
        piece = client.piece().await.unwrap();
    }
    assert!(piece.contains("Hel"), "{piece}");
    // After the first token no comments are sent.
    call.say_hello().await;
    let rest = client.rest().await;
    assert!(
        !rest.contains(COMMENT) && rest.ends_with("data: [DONE]\n\n"),
        "{rest}"
    );
    router.end().await;
}

#[tokio::test]
async fn a_wait_that_is_over_after_the_head_is_told_in_the_stream() {
    let (worker, router, mut bills) = full(|plan| plan.queue.max_wait = LONG_ENOUGH).await;
    let mut client = router.chat(STREAMED).await;
    stays_alive(&mut client).await;
    let message = ends_with(&mut client, "server_is_overloaded").await;
    assert!(message.contains("Try again in 2 seconds."), "{message}");
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (200, "wait_over"));
    assert_eq!((event.prompt_tokens, event.completion_tokens), (0, 0));
    // A non-streamed response has the status of the error, however late it comes.
    let answer = router.ask("POST", "/v1/chat/completions", WHOLE).await;
    assert_eq!(answer.error().0, 503);
    drop(worker);
    router.end().await;
}

#[tokio::test]
async fn a_failure_after_the_head_is_told_in_the_stream_and_a_retry_is_not() {
    let (mut worker, router, mut bills) = idle().await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    stays_alive(&mut client).await;
    // The request waits until the worker has capacity again, and the client is not informed.
    call.say(failed(Kind::Overloaded, "for the log", "")).await;
    let call = worker.call().await;
    call.say(failed(
        Kind::InvalidRequest,
        "The schema is not supported.",
        "tools",
    ))
    .await;
    let message = ends_with(&mut client, "invalid_value").await;
    assert_eq!(message, "The schema is not supported.");
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (200, "invalid_value"));
    router.end().await;
}

#[tokio::test]
async fn the_deadline_of_a_stream_without_a_token_is_told_in_the_stream() {
    let mut worker = ScriptedWorker::start().await;
    let (router, mut bills) = TestRouter::planned_and_configured(
        &[&worker],
        |_| (),
        |config| {
            config.keep_alive = Duration::from_millis(20);
            config.request_timeout = LONG_ENOUGH;
        },
    )
    .await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 4)).await;
    stays_alive(&mut client).await;
    let ends = tokio::spawn(call.ends_when_cancelled(usage(10, 4, 0)));
    ends_with(&mut client, "deadline_exceeded").await;
    ends.await.unwrap();
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (200, "deadline_exceeded"));
    assert_eq!((event.prompt_tokens, event.cached_tokens), (10, 4));
    router.end().await;
}

#[tokio::test]
async fn who_leaves_after_the_head_but_before_a_worker_costs_nothing() {
    let (mut worker, router, mut bills) = full(|_| ()).await;
    let mut client = router.chat(STREAMED).await;
    stays_alive(&mut client).await;
    waiting(&router, 1).await;
    drop(client);
    waiting(&router, 0).await;
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (200, "client_left"));
    assert_eq!((event.prompt_tokens, event.completion_tokens), (0, 0));
    assert!(!worker.was_called());
    nothing_is_left(&router).await;
    router.end().await;
}

#[tokio::test]
async fn who_leaves_after_the_head_while_a_worker_is_busy_is_billed_what_that_computed() {
    let (mut worker, router, mut bills) = idle().await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 4)).await;
    stays_alive(&mut client).await;
    drop(client);
    call.ends_when_cancelled(usage(10, 4, 3)).await;
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (200, "client_left"));
    let used = [
        event.prompt_tokens,
        event.cached_tokens,
        event.completion_tokens,
    ];
    assert_eq!(used, [10, 4, 3]);
    nothing_is_left(&router).await;
    router.end().await;
}
