//! Shared prefixes: computed once, told truthfully, never seen across salts, and never in the text.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use inferyard_proto::worker::v1 as wire;
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use serde_json::json;

use crate::harness::{CLEAR, Server, chat, chat_of, within};

/// A conversation whose beginning is long and common to all.
fn conversation(turns: &[&str]) -> wire::GenerateRequest {
    let mut messages = vec![json!({"role": "user", "content": "Reply with: one"})];
    for turn in turns {
        messages.push(json!({"role": "assistant", "content": "one"}));
        messages.push(json!({"role": "user", "content": format!("Reply with: {turn}")}));
    }
    let mut request = chat_of(&serde_json::Value::from(messages));
    request.max_tokens = Some(40);
    request
}

#[tokio::test]
async fn the_second_of_two_equal_prompts_is_cached() {
    let server = Server::start().await;
    let first = server.ask(chat("Reply with: payload verified.")).await;
    assert_eq!(first.cached(), 0);
    let second = server.ask(chat("Reply with: payload verified.")).await;
    let prompt = second.admitted.as_ref().unwrap().prompt_tokens;
    assert_eq!(second.cached(), prompt - 1, "all but the last token");
    assert_eq!(first.only().content, second.only().content);
    let state = server.wait_idle().await;
    // The last token of an answer is drawn, and nothing is computed from it.
    let computed = state.prompt_tokens_total - state.cached_tokens_total;
    let answered = state.completion_tokens_total - 2;
    assert_eq!(state.worked_tokens_total, computed + answered);
}

#[tokio::test]
async fn salts_share_nothing() {
    let server = Server::start().await;
    let salted = |salt: &str| wire::GenerateRequest {
        cache_salt: salt.to_owned(),
        ..chat("Reply with: secret")
    };
    assert_eq!(server.ask(salted("a")).await.cached(), 0);
    assert_eq!(server.ask(salted("b")).await.cached(), 0);
    assert!(server.ask(salted("a")).await.cached() > 0);
}

#[tokio::test]
async fn a_request_can_share_with_one_that_still_runs() {
    let server = Server::start().await;
    let mut running = server.send(chat("Repeat: tick")).await;
    // Admitted, and its first token.
    for _ in 0..2 {
        within(running.message()).await.unwrap().unwrap();
    }
    let other = server.ask(wire::GenerateRequest {
        max_tokens: Some(3),
        ..chat("Repeat: tick")
    });
    assert!(other.await.cached() > 10);
}

/// The cache changes how fast an answer comes, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_cache_gives_the_same_text_as_a_cold_one() {
    // So small that prefixes are evicted all the time.
    let server = Server::start_with(|setup| {
        setup.engine.limits.context_length = Some(512);
        setup.engine.kv_tokens = Some(1024);
    })
    .await;
    let handle = tokio::runtime::Handle::current();
    let turns = prop::collection::vec(prop::sample::select(&CLEAR[..]), 0..4);
    tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(30));
        let cold_salts = AtomicU32::new(0);
        runner
            .run(&turns, |turns| {
                let warm = conversation(&turns);
                // Nobody has used this salt before: nothing can be cached.
                let salt = cold_salts.fetch_add(1, Relaxed).to_string();
                let cold = wire::GenerateRequest {
                    cache_salt: salt,
                    ..warm.clone()
                };
                let (cold, mixed, warm) = handle.block_on(async {
                    (
                        server.ask(cold).await,
                        server.ask(warm.clone()).await,
                        server.ask(warm).await,
                    )
                });
                prop_assert_eq!(cold.cached(), 0);
                // The cache holds what was asked last, whatever was evicted before.
                let prompt = warm.admitted.as_ref().unwrap().prompt_tokens;
                prop_assert_eq!(warm.cached(), prompt - 1, "all but the last token");
                let cold = cold.only().tokens;
                prop_assert_eq!(&mixed.only().tokens, &cold);
                prop_assert_eq!(&warm.only().tokens, &cold);
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_state_tells_which_blocks_are_held() {
    let server = Server::start_with(|setup| {
        setup.engine.limits.context_length = Some(3_000);
        setup.engine.kv_tokens = Some(3_072);
    })
    .await;
    let long = |fill: &str, blocks: &[u64]| wire::GenerateRequest {
        prefix_blocks: blocks.to_vec(),
        max_tokens: Some(2),
        ..chat(&fill.repeat(2_300))
    };
    let mut states = server.watch().await;
    let first = within(states.message()).await.unwrap().unwrap();
    assert_eq!(first.sequence, 1);
    assert!(first.prefixes.as_ref().unwrap().reset);

    server.ask(long("a", &[11, 12])).await;
    let mut held: HashSet<u64> = HashSet::new();
    let mut follow = async |expected: &[u64]| {
        let expected: HashSet<u64> = expected.iter().copied().collect();
        while held != expected {
            let state = within(states.message()).await.unwrap().unwrap();
            let change = state.prefixes.unwrap();
            assert!(!change.reset, "nothing was skipped");
            held.extend(change.added);
            for block in change.removed {
                assert!(held.remove(&block), "only what is held can be removed");
            }
        }
    };
    follow(&[11, 12]).await;
    // There is no room for both.
    server.ask(long("b", &[21, 22])).await;
    follow(&[21, 22]).await;

    server.wait_idle().await;
    let late = within(server.watch().await.message())
        .await
        .unwrap()
        .unwrap();
    let prefixes = late.prefixes.unwrap();
    assert!(prefixes.reset, "a new watcher hears everything");
    assert_eq!(
        prefixes.added.into_iter().collect::<HashSet<_>>(),
        HashSet::from([21, 22])
    );
    assert_eq!(late.kv_used_tokens, late.kv_cached_tokens);
    assert!(late.kv_used_tokens > 2_300);
}
