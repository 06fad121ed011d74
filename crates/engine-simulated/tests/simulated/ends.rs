//! How requests end that are not complete, and how the worker ends.

use std::time::Duration;

use inferyard_proto::worker::v1 as proto;
use proto::failed::Kind;
use proto::worker_state::Phase;
use tokio_stream::StreamExt;

use crate::harness::{read, start, with_answer, within};

fn named(id: &str, request: proto::GenerateRequest) -> proto::GenerateRequest {
    proto::GenerateRequest {
        request_id: id.to_owned(),
        ..request
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_cancelled_hears_what_was_used_and_frees_its_place() {
    let worker = start(|setup| setup.engine.limits.max_running = 1).await;
    let mut running = Box::pin(worker.send(named("a", with_answer(10, 1_000))).await);
    let waiting = worker.send(named("b", with_answer(10, 5))).await;
    let cancelled = worker.send(named("c", with_answer(10, 5))).await;
    // `Admitted` and three tokens.
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(within(running.next()).await.unwrap());
    }
    assert!(worker.cancel("c").await && worker.cancel("a").await);
    let answer = read(tokio_stream::iter(first).chain(running)).await;
    let usage = answer.failed.as_ref().unwrap().usage.unwrap();
    assert_eq!((answer.kind(), usage.prompt_tokens), (Kind::Cancelled, 10));
    assert!((3..=5).contains(&usage.completion_tokens), "{usage:?}");
    assert_eq!(read(cancelled).await.kind(), Kind::Cancelled);
    assert_eq!(read(waiting).await.only().tokens.len(), 5);
    let state = worker.wait_idle().await;
    assert_eq!(state.kv_used_tokens, state.kv_cached_tokens);
    assert!(!worker.cancel("a").await);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_frees_its_place() {
    let worker = start(|setup| setup.engine.limits.max_running = 1).await;
    let running = worker.send(with_answer(10, 100_000)).await;
    worker.wait_for(|state| state.running == 1).await;
    drop(running);
    assert_eq!(worker.ask(with_answer(10, 1)).await.only().tokens.len(), 1);
    let state = worker.wait_idle().await;
    assert!(state.dropped_prompt_tokens_total == 10);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_runs_and_what_waits() {
    let worker = start(|setup| setup.engine.limits.max_running = 1).await;
    let until = |deadline| proto::GenerateRequest {
        deadline_ms: Some(deadline),
        ..with_answer(10, 100_000)
    };
    let running = worker.send(until(1_000)).await;
    worker.wait_for(|state| state.running == 1).await;
    let waiting = worker.send(until(500)).await;
    let (running, waiting) = tokio::join!(read(running), read(waiting));
    assert_eq!(running.kind(), Kind::DeadlineExceeded);
    assert_eq!(waiting.kind(), Kind::DeadlineExceeded);
    let produced = running.failed.unwrap().usage.unwrap().completion_tokens;
    assert!((98..=100).contains(&produced), "{produced}");
    assert!(waiting.admitted.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_nothing_stops_only_its_own_answer() {
    let patience = Duration::from_secs(30);
    let worker = start(|setup| setup.engine.limits.slow_reader_timeout = patience).await;
    let unread = worker.send(with_answer(10, 100_000)).await;
    // It is parked long before this one is complete.
    let other = worker.ask(with_answer(10, 1_000)).await;
    assert_eq!(other.only().tokens.len(), 1_000);
    let state = worker.wait_for(|state| state.running == 0).await;
    assert_eq!(state.open_requests, 0);
    let unread = read(unread).await;
    assert_eq!(unread.kind(), Kind::SlowReader);
    let produced = unread.failed.unwrap().usage.unwrap().completion_tokens;
    assert!((63..=66).contains(&produced), "{produced}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_comes_back_gets_everything() {
    let worker = start(|_| ()).await;
    let unread = worker.send(with_answer(10, 500)).await;
    let other = worker.ask(with_answer(10, 200)).await;
    assert_eq!(other.only().tokens.len(), 200);
    assert_eq!(read(unread).await.only().tokens.len(), 500);
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_runs_and_refuses_the_rest() {
    let worker = start(|setup| setup.engine.limits.max_running = 1).await;
    let running = worker.send(with_answer(10, 200)).await;
    worker.wait_for(|state| state.running == 1).await;
    let waiting = worker.send(with_answer(10, 1)).await;
    let mut states = Box::pin(worker.watch().await);
    worker.shut_down();
    let (running, waiting) = tokio::join!(read(running), read(waiting));
    assert_eq!(waiting.kind(), Kind::Draining);
    assert_eq!(running.only().tokens.len(), 200);
    let mut last = None;
    while let Some(state) = within(states.next()).await {
        last = Some(state.unwrap());
    }
    let last = last.unwrap();
    assert_eq!((last.phase(), last.running), (Phase::Draining, 0));
    worker.ended().await;
}

#[tokio::test(start_paused = true)]
async fn draining_has_an_end() {
    let worker = start(|setup| setup.worker.drain_timeout = Duration::from_secs(1)).await;
    let running = worker.send(with_answer(10, 100_000)).await;
    worker.wait_for(|state| state.running == 1).await;
    worker.shut_down();
    let failed = read(running).await;
    assert_eq!(failed.kind(), Kind::Draining);
    worker.ended().await;
}
