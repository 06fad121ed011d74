//! When tokens come, in the time of the GPU.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{prompt, start, with_answer};
use inferyard_proto::worker::v1 as proto;

/// A timer ends with the millisecond.
fn ms(from: Instant, to: Instant) -> u128 {
    (to - from).as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_prompt_takes_its_time_and_then_each_token() {
    let worker = start(|_| ()).await;
    let asked = Instant::now();
    let answer = worker.ask(with_answer(500, 21)).await;
    let first = ms(asked, answer.told[0]);
    assert!((500..=501).contains(&first), "{first}");
    // 20 steps of 10 ms.
    let rest = ms(answer.told[0], answer.told[20]);
    assert!((199..=201).contains(&rest), "{rest}");
    let begun = ms(asked, answer.begun.unwrap());
    assert!(
        begun <= 1,
        "it hears at once that it has its place: {begun}"
    );
    let choice = answer.only();
    assert!(choice.content.starts_with("simulated tokens in the order"));
    assert_eq!(
        (choice.tokens.len(), choice.reason),
        (21, Some(proto::FinishReason::Length))
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_an_answer_has_64_tokens() {
    let worker = start(|_| ()).await;
    let choice = worker.ask(prompt(10)).await.only();
    assert_eq!(
        (choice.tokens.len(), choice.reason),
        (64, Some(proto::FinishReason::Stop))
    );
}

#[tokio::test(start_paused = true)]
async fn answers_share_their_steps() {
    let worker = start(|_| ()).await;
    let (one, other) = tokio::join!(
        worker.ask(with_answer(10, 11)),
        worker.ask(with_answer(10, 11))
    );
    // Both prompts in one step of 20 ms, then 10 steps of 11 ms.
    for answer in [one, other] {
        let took = ms(answer.told[0], answer.told[10]);
        assert!((109..=111).contains(&took), "{took}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_holds_is_not_computed_again_and_watchers_hear_of_it() {
    let worker = start(|_| ()).await;
    let with_blocks = |blocks: &[u64]| proto::GenerateRequest {
        prefix_blocks: blocks.to_vec(),
        ..with_answer(1_000, 1)
    };
    let first = worker.ask(with_blocks(&[7, 8, 9])).await;
    assert_eq!(first.admitted.unwrap().cached_tokens, 0);
    let state = worker.wait_idle().await;
    let prefixes = state.prefixes.unwrap();
    let mut held = prefixes.added;
    held.sort_unstable();
    assert!(prefixes.reset && held == [7, 8, 9]);
    assert_eq!((state.kv_used_tokens, state.kv_cached_tokens), (768, 768));
    let asked = Instant::now();
    let second = worker.ask(with_blocks(&[7, 8, 10])).await;
    assert_eq!(second.admitted.unwrap().cached_tokens, 512);
    let took = ms(asked, second.told[0]);
    assert!((488..=489).contains(&took), "{took}");
    let state = worker.wait_idle().await;
    assert_eq!(state.cached_tokens_total, 512);
    assert!(state.prefill_tokens_per_second > 900.0);
}

#[tokio::test(start_paused = true)]
async fn several_choices_share_their_prompt() {
    let worker = start(|_| ()).await;
    let asked = Instant::now();
    let request = proto::GenerateRequest {
        choices: 3,
        prefix_blocks: vec![1],
        ..with_answer(256, 5)
    };
    let answer = worker.ask(request).await;
    assert_eq!(answer.choices.len(), 3);
    assert!(
        answer
            .choices
            .values()
            .all(|choice| choice.tokens.len() == 5)
    );
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (256, 15));
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(350), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_more_urgent_of_those_who_wait_goes_first() {
    let worker = start(|setup| setup.engine.limits.max_running = 1).await;
    let of = |priority| proto::GenerateRequest {
        priority,
        ..with_answer(10, 10)
    };
    let running = worker.send(of(0)).await;
    worker.wait_for(|state| state.running == 1).await;
    let (low, high) = (worker.send(of(-1)).await, worker.send(of(9)).await);
    let (running, low, high) = tokio::join!(
        crate::harness::read(running),
        crate::harness::read(low),
        crate::harness::read(high)
    );
    let begun = [running, high, low].map(|answer| answer.begun.unwrap());
    assert!(begun.is_sorted() && begun[0] < begun[1] && begun[1] < begun[2]);
}

#[tokio::test(start_paused = true)]
async fn nothing_takes_time_where_all_is_instant() {
    let worker =
        crate::harness::start_as(inferyard_engine_simulated::Config::instant(), |_| ()).await;
    let asked = Instant::now();
    let answer = worker.ask(with_answer(5_000, 1_000)).await;
    assert_eq!(answer.only().tokens.len(), 1_000);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn work_of_the_last_minute_is_told_while_nothing_runs() {
    let worker = start(|_| ()).await;
    worker.ask(with_answer(500, 21)).await;
    let idle = worker.wait_idle().await;
    assert_eq!(idle.worked_tokens_last_minute, 521);
    tokio::time::sleep(Duration::from_secs(30)).await;
    worker.ask(with_answer(100, 11)).await;
    let both = worker.wait_idle().await;
    assert_eq!(both.worked_tokens_last_minute, 632);
    tokio::time::sleep(Duration::from_secs(45)).await;
    let second = worker.wait_idle().await;
    assert_eq!(second.worked_tokens_last_minute, 111);
    tokio::time::sleep(Duration::from_secs(45)).await;
    let rested = worker.wait_idle().await;
    assert_eq!(
        (rested.worked_tokens_last_minute, rested.worked_tokens_total),
        (0, 632)
    );
}
