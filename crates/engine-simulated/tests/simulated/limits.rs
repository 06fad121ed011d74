//! What does not fit waits or is refused.

use inferyard_engine_simulated::Config;
use inferyard_proto::worker::v1 as proto;
use inferyard_worker::{self as worker, Listen, Worker};
use proto::failed::Kind;
use tokio_util::sync::CancellationToken;

use crate::harness::{prompt, read, start, with_answer, within};

#[tokio::test(start_paused = true)]
async fn who_does_not_fit_into_the_cache_waits_in_the_line() {
    let worker = start(|setup| setup.engine.kv_tokens = Some(1_000)).await;
    let first = worker.send(with_answer(600, 100)).await;
    worker.wait_for(|state| state.running == 1).await;
    let second = worker.send(with_answer(600, 100)).await;
    let state = worker.wait_for(|state| state.queued == 1).await;
    assert_eq!((state.running, state.kv_used_tokens), (1, 700));
    let (first, second) = tokio::join!(read(first), read(second));
    assert!(second.begun.unwrap() >= *first.told.last().unwrap());
    assert_eq!(second.only().tokens.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_longer_than_the_context_is_refused() {
    let worker = start(|setup| {
        setup.engine.kv_tokens = Some(1_000);
        setup.engine.limits.context_length = Some(500);
    })
    .await;
    let answer = worker.ask(prompt(500)).await;
    assert_eq!(answer.kind(), Kind::ContextLengthExceeded);
    let cut = worker.ask(with_answer(490, 100)).await.only();
    assert_eq!(
        (cut.tokens.len(), cut.reason),
        (10, Some(proto::FinishReason::Length))
    );
}

#[tokio::test(start_paused = true)]
async fn a_prompt_above_its_limit_is_refused_with_its_count() {
    let worker = start(|_| ()).await;
    let limited = |most| proto::GenerateRequest {
        max_prompt_tokens: Some(most),
        ..with_answer(100, 1)
    };
    let failed = worker.ask(limited(99)).await.failed.unwrap();
    assert_eq!(
        (failed.kind(), failed.prompt_tokens, failed.usage),
        (Kind::PromptTooExpensive, 100, Some(proto::Usage::default()))
    );
    assert_eq!(
        worker.ask(limited(100)).await.usage.unwrap().prompt_tokens,
        100
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_line_refuses() {
    let worker = start(|setup| {
        setup.engine.limits.max_running = 1;
        setup.engine.limits.max_queued = 1;
    })
    .await;
    let running = worker.send(with_answer(10, 50)).await;
    worker.wait_for(|state| state.running == 1).await;
    let waiting = worker.send(with_answer(10, 1)).await;
    let refused = worker.ask(with_answer(10, 1)).await;
    assert_eq!(refused.kind(), Kind::Overloaded);
    let (running, waiting) = tokio::join!(read(running), read(waiting));
    assert!(running.usage.is_some() && waiting.usage.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_model_would_have_to_do_is_refused() {
    let worker = start(|_| ()).await;
    let format = proto::response_format::Format::JsonObject(proto::JsonObject {});
    let json = proto::GenerateRequest {
        response_format: Some(proto::ResponseFormat {
            format: Some(format),
        }),
        ..prompt(10)
    };
    let failed = worker.ask(json).await.failed.unwrap();
    assert_eq!(
        (failed.kind(), failed.param.as_str()),
        (Kind::InvalidRequest, "response_format")
    );
    assert_eq!(failed.message, "The simulated engine writes no JSON.");
}

#[tokio::test]
async fn a_gpu_that_makes_no_sense_is_named() {
    let check = |engine: Config, kv_tokens, expect: &'static str| async move {
        let any = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let mut engine = engine;
        engine.limits.context_length = Some(1_000);
        engine.kv_tokens = Some(kv_tokens);
        let worker = Worker::bind(worker::Config::new(any, "m")).await.unwrap();
        let engine = engine.bind().await.unwrap();
        let error = within(worker.run(engine, CancellationToken::new()))
            .await
            .unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(Config::default(), 999, "does not fit into 999 KV cells").await;
    let standing = Config {
        prefill_tokens_per_second: 0.0,
        ..Config::default()
    };
    check(standing, 1_000, "must be above zero").await;
}
