//! Shutdown of a router, and the deadline of a request.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::{
    STREAMED, ScriptedWorker, TestRouter, WHOLE, admitted, delta, eventually, usage, within,
};

#[tokio::test]
async fn draining_cuts_no_stream() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let idle = router.connect().await;
    let mut streaming = router.chat(STREAMED).await;
    let first = worker.call().await;
    let mut waiting = router.chat(WHOLE).await;
    let second = worker.call().await;
    first.say(delta("Hello")).await;
    streaming.head().await;

    router.shutdown.cancel();
    eventually(async || TcpStream::connect(router.address).await.is_err()).await;
    assert!(!router.run.is_finished());
    first.say_hello().await;
    second.say_hello().await;
    let body = streaming.rest().await;
    assert!(
        !body.contains("error") && body.ends_with("data: [DONE]\n\n"),
        "{body}"
    );
    assert!(streaming.is_at_end().await);
    let answer = waiting.answer().await;
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.header("connection"), Some("close"));
    within(router.run).await.unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn what_is_still_running_after_the_drain_time_ends_with_an_error() {
    let mut worker = ScriptedWorker::start().await;
    let quick = Duration::from_millis(50);
    let router = TestRouter::configured(&[&worker], |config| config.drain_timeout = quick).await;
    let mut streaming = router.chat(STREAMED).await;
    let first = worker.call().await;
    first.say(delta("Hello")).await;
    streaming.head().await;
    let mut waiting = router.chat(WHOLE).await;
    let second = worker.call().await;

    router.shutdown.cancel();
    first.ends_when_cancelled(usage(10, 0, 1)).await;
    let body = streaming.rest().await;
    assert!(body.contains("data: {\"error\":{"), "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    // This worker never reports its final usage, and the client gets its response anyway.
    assert_eq!(waiting.answer().await.error().0, 503);
    second.dropped().await;
    within(router.run).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_deadline_is_a_504_or_an_error_frame() {
    let mut worker = ScriptedWorker::start().await;
    // Long enough for the first token to arrive before it on a busy machine. Both answers share this deadline.
    let time = Duration::from_secs(2);
    let router = TestRouter::configured(&[&worker], |config| config.request_timeout = time).await;
    let mut waiting = router.chat(STREAMED).await;
    let without_a_token = worker.call().await;
    without_a_token.say(admitted(10, 0)).await;
    let mut streaming = router.chat(STREAMED).await;
    let with_a_token = worker.call().await;
    with_a_token.say(delta("Hello")).await;
    assert_eq!(streaming.head().await.status, 200);

    without_a_token.ends_when_cancelled(usage(10, 0, 0)).await;
    assert_eq!(waiting.answer().await.error().0, 504);
    with_a_token.ends_when_cancelled(usage(10, 0, 1)).await;
    let body = streaming.rest().await;
    assert!(body.contains("data: {\"error\":{"), "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    router.end().await;
}
