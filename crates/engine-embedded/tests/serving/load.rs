//! Many requests at once: batching, queueing, leaving, slow readers, a cache that is too small.

use std::time::Duration;

use inferyard_proto::worker::v1 as wire;
use tokio::task::JoinSet;
use tonic::Code;
use wire::failed::Kind;

use crate::harness::{CLEAR, Server, chat, read, within};

async fn ask_all(server: &Server, requests: Vec<wire::GenerateRequest>) -> Vec<Vec<u32>> {
    let mut running = JoinSet::new();
    for (index, request) in requests.into_iter().enumerate() {
        let events = server.send(request).await;
        running.spawn(async move { (index, read(events).await.only().tokens) });
    }
    let mut answers = within(running.join_all()).await;
    answers.sort();
    answers.into_iter().map(|(_, tokens)| tokens).collect()
}

#[tokio::test]
async fn many_at_once_say_the_same_as_one_by_one() {
    let server = Server::start().await;
    let words: Vec<String> = (0..24)
        .map(|i| format!("{} {i}", CLEAR[i % CLEAR.len()]))
        .collect();
    let request = |word: &String| wire::GenerateRequest {
        // Nothing shared: every one computes its own prompt.
        cache_salt: word.clone(),
        ..chat(&format!("Reply with: {word}"))
    };
    let mut alone = Vec::new();
    for word in &words {
        alone.push(server.ask(request(word)).await.only().tokens);
    }
    let fresh = Server::start().await;
    assert_eq!(
        ask_all(&fresh, words.iter().map(request).collect()).await,
        alone
    );
    fresh.wait_idle().await;
}

#[tokio::test]
async fn a_small_cache_makes_answers_wait_but_never_wrong() {
    let request = |word: &String| wire::GenerateRequest {
        cache_salt: word.clone(),
        max_tokens: Some(150),
        ..chat(&format!("Repeat: {word}"))
    };
    let words: Vec<String> = ["tick", "a", "hello", "cloud", "one two"]
        .map(String::from)
        .into();
    let roomy = Server::start().await;
    let mut alone = Vec::new();
    for word in &words {
        alone.push(roomy.ask(request(word)).await.only().tokens);
    }
    // The five of them need about 1,000 cells.
    let small = Server::start_with(|setup| {
        setup.engine.limits.context_length = Some(512);
        setup.engine.kv_tokens = Some(512);
    })
    .await;
    assert_eq!(
        ask_all(&small, words.iter().map(request).collect()).await,
        alone
    );
    let state = small.wait_idle().await;
    assert_eq!(state.capacity.unwrap().kv_total_tokens, 512);
}

#[tokio::test]
async fn a_huge_prompt_and_a_short_one_are_both_answered() {
    let server = Server::start_with(|setup| setup.engine.batch_tokens = 64).await;
    let huge = server.send(chat(&"x".repeat(3_000))).await;
    let short = server.text(chat("Reply with: quick")).await;
    assert_eq!(short, "quick");
    assert!(read(huge).await.usage.unwrap().prompt_tokens > 3_000);
}

#[tokio::test]
async fn who_leaves_frees_the_slot() {
    let server = Server::start_with(|setup| setup.engine.limits.max_running = 2).await;
    let mut leavers = Vec::new();
    for _ in 0..6 {
        leavers.push(server.send(chat("Repeat: tick")).await);
    }
    server
        .wait_for(|state| state.running == 2 && state.queued == 4)
        .await;
    drop(leavers);
    let state = server.wait_idle().await;
    assert_eq!(state.queued_prefill_tokens, 0);
    assert_eq!(server.text(chat("Reply with: free")).await, "free");
}

#[tokio::test]
async fn who_is_cancelled_hears_what_was_produced_and_frees_the_slot() {
    const STREAMS: u64 = 4;
    let server = Server::start_with(|setup| setup.engine.limits.max_running = 2).await;
    let mut streams = Vec::new();
    for index in 0..STREAMS {
        let request_id = format!("req_{index}");
        let repeat = chat("Repeat: tick");
        streams.push((
            request_id.clone(),
            server
                .send(wire::GenerateRequest {
                    request_id,
                    ..repeat
                })
                .await,
        ));
    }
    let ran = server
        .wait_for(|state| state.running == 2 && state.queued == 2)
        .await;
    assert_eq!(ran.completion_tokens_total, 0);
    assert_eq!(cancel(&server, "req_9").await, Err(Code::NotFound));
    assert_eq!(cancel(&server, "").await, Err(Code::NotFound));
    let mut said = wire::Usage::default();
    // The waiting ones first: they get no place.
    for (id, events) in streams.into_iter().rev() {
        assert_eq!(cancel(&server, &id).await, Ok(()));
        let failed = read(events).await.failed.unwrap();
        assert_eq!(failed.kind(), Kind::Cancelled);
        let usage = failed.usage.unwrap();
        let ran = ["req_0", "req_1"].contains(&id.as_str());
        assert_eq!(usage.prompt_tokens > 0, ran, "{id}: {usage:?}");
        said.prompt_tokens += usage.prompt_tokens;
        said.completion_tokens += usage.completion_tokens;
        assert_eq!(cancel(&server, &id).await, Err(Code::NotFound));
    }
    let state = server.wait_idle().await;
    assert_eq!(state.prompt_tokens_total, u64::from(said.prompt_tokens));
    assert_eq!(
        state.completion_tokens_total,
        u64::from(said.completion_tokens)
    );
    assert_eq!(state.dropped_prompt_tokens_total, 0);
    assert_eq!(server.text(chat("Reply with: free")).await, "free");
}

async fn cancel(server: &Server, id: &str) -> Result<(), Code> {
    let request_id = id.to_owned();
    let request = wire::CancelRequest { request_id };
    let answer = server.client.clone().cancel(request).await;
    answer.map(drop).map_err(|status| status.code())
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let (server, [running, waiting]) = Server::start_full().await;
    assert_eq!(
        server.failure(chat("Reply with: x")).await.kind(),
        Kind::Overloaded
    );
    drop(running);
    assert_eq!(read(waiting).await.only().content, "waited");
}

#[tokio::test]
async fn a_higher_priority_passes() {
    let server = Server::start_with(|setup| setup.engine.limits.max_running = 1).await;
    let running = server.send(chat("Repeat: tick")).await;
    server.wait_for(|state| state.running == 1).await;
    let prioritised = |priority| wire::GenerateRequest {
        priority,
        cache_salt: "theirs".to_owned(),
        ..chat("Reply with: first")
    };
    let low = server.send(prioritised(0)).await;
    server.wait_for(|state| state.queued == 1).await;
    let high = server.send(prioritised(1)).await;
    server.wait_for(|state| state.queued == 2).await;
    drop(running);
    // Who comes second finds the prompt in the cache.
    assert_eq!(read(high).await.cached(), 0);
    assert!(read(low).await.cached() > 0);
}

#[tokio::test]
async fn a_deadline_ends_waiting_and_running() {
    let server = Server::start_with(|setup| setup.engine.limits.max_running = 1).await;
    let request = |deadline| wire::GenerateRequest {
        deadline_ms: Some(deadline),
        ..chat("Repeat: tick")
    };
    let running = server.send(chat("Repeat: tick")).await;
    server.wait_for(|state| state.running == 1).await;
    let waiting = server.failure(request(30)).await;
    assert_eq!(waiting.kind(), Kind::DeadlineExceeded);
    assert_eq!(waiting.usage.unwrap().completion_tokens, 0);
    drop(running);
    server.wait_idle().await;
    let cut = server.failure(request(30)).await;
    assert_eq!(cut.kind(), Kind::DeadlineExceeded);
    server.wait_idle().await;
}

#[tokio::test]
async fn a_slow_reader_slows_nobody_and_is_cut() {
    let server = Server::start_with(|setup| {
        setup.engine.limits.slow_reader_timeout = Duration::from_millis(300);
    })
    .await;
    // A connection of its own, whose windows hold next to nothing.
    let channel = tonic::transport::Endpoint::from_shared(server.uri.clone())
        .unwrap()
        .initial_stream_window_size(64)
        .connect()
        .await
        .unwrap();
    let mut slow_client = wire::worker_client::WorkerClient::new(channel);
    let slow = slow_client
        .generate(chat("Repeat: tick"))
        .await
        .unwrap()
        .into_inner();
    server.wait_for(|state| state.running == 1).await;
    assert_eq!(
        server.text(chat("Reply with: not slowed")).await,
        "not slowed"
    );
    server.wait_idle().await;
    let answer = read(slow).await;
    let failed = answer.failed.unwrap();
    assert_eq!(failed.kind(), Kind::SlowReader);
    let read: usize = answer
        .choices
        .values()
        .map(|choice| choice.tokens.len())
        .sum();
    assert!(failed.usage.unwrap().completion_tokens as usize >= read);
}
