//! Budgets can be spent completely but never exceeded.

use std::num::NonZeroU64;

use inferyard_catalog::Price;
use inferyard_proto::worker::v1::Failed;
use inferyard_proto::worker::v1::failed::Kind;
use inferyard_proto::worker::v1::generate_event::Event;

use crate::support::{
    Answer, Bills, Call, Connection, ScriptedWorker, TestRouter, admitted, choice_finished, delta,
    finished,
};

/// Price of a token in nano-dollars: $5 per million tokens.
const TOKEN: u64 = 5_000;
/// A chat request with at most ten completion tokens.
const CHAT: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"Say hello."}],"max_tokens":10}"#;

/// A worker that reports the tokens of its template and so counts prompts first, and a router with a budget.
async fn with_budget(nanodollars: u64) -> (ScriptedWorker, TestRouter, Bills) {
    with_template(9, nanodollars).await
}

/// A worker that reports this number of template tokens, and a router with a budget.
async fn with_template(
    template_tokens: u32,
    nanodollars: u64,
) -> (ScriptedWorker, TestRouter, Bills) {
    let worker = ScriptedWorker::start().await;
    worker.becomes(|state| state.capacity.as_mut().unwrap().template_tokens = template_tokens);
    let (router, bills) = TestRouter::planned(&[&worker], |plan| {
        plan.limits.budget_per_month = NonZeroU64::new(nanodollars);
        plan.price = Price::new("plan", TOKEN, TOKEN, TOKEN);
    })
    .await;
    (worker, router, bills)
}

fn too_expensive(prompt_tokens: u32) -> Event {
    Event::Failed(Failed {
        kind: Kind::PromptTooExpensive.into(),
        prompt_tokens,
        ..Failed::default()
    })
}

/// Answers a call like a worker that counts this number of prompt tokens: refuses it (returns `None`), or
/// produces all tokens and returns their number.
async fn work(call: Call, prompt_tokens: u32) -> Option<u32> {
    if call.request.max_prompt_tokens.unwrap() < prompt_tokens {
        call.say(too_expensive(prompt_tokens)).await;
        return None;
    }
    let answer = call.request.max_tokens.unwrap();
    call.say(admitted(prompt_tokens, 0)).await;
    for _ in 0..answer {
        call.say(delta("x")).await;
    }
    call.say(choice_finished()).await;
    call.say(finished(prompt_tokens, 0, answer)).await;
    Some(answer)
}

/// Answers all calls until the client has its answer.
async fn answered(worker: &mut ScriptedWorker, mut client: Connection, prompt: u32) -> Answer {
    let mut answer = std::pin::pin!(client.answer());
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            call = worker.call() => {
                work(call, prompt).await;
            }
        }
    }
}

/// The number of completion tokens, or the message of the error.
fn outcome(answer: &Answer) -> Result<u64, String> {
    let json = answer.json();
    if answer.head.status == 200 {
        return Ok(json["usage"]["completion_tokens"].as_u64().unwrap());
    }
    assert_eq!(answer.head.status, 429);
    assert_eq!(json["error"]["code"], "insufficient_quota");
    assert_eq!(json["error"]["type"], "insufficient_quota");
    Err(json["error"]["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn all_of_a_budget_can_be_spent_and_not_more() {
    // Each request has 11 prompt tokens and 10 completion tokens: $0.000105.
    for (budget, whole, last) in [
        (10_000_000, 95, None),
        (5_000_000, 47, Some(2)),
        (95 * 21 * TOKEN + 11 * TOKEN, 95, None),
    ] {
        let (mut worker, router, mut bills) = with_budget(budget).await;
        let mut spent = 0;
        for _ in 0..whole {
            let client = router.chat(CHAT).await;
            let answer = answered(&mut worker, client, 11).await;
            assert_eq!(outcome(&answer), Ok(10), "{spent} of {budget} are spent");
            spent += bills.next().await.cost_nanodollars;
        }
        if let Some(last) = last {
            let client = router.chat(CHAT).await;
            let answer = answered(&mut worker, client, 11).await;
            assert_eq!(outcome(&answer), Ok(last), "{spent} of {budget} are spent");
            spent += bills.next().await.cost_nanodollars;
        }
        let client = router.chat(CHAT).await;
        let denied = outcome(&answered(&mut worker, client, 11).await);
        let missing = denied.unwrap_err();
        let says = "this request needs at least $0.0";
        assert!(
            missing.contains("Left $0.0") && missing.contains(says) && missing.contains("anew in"),
            "{missing}"
        );
        assert!(spent <= budget && budget - spent < 12 * TOKEN, "{spent}");
        router.end().await;
        let rest: u64 = bills
            .rest()
            .await
            .iter()
            .map(|bill| bill.cost_nanodollars)
            .sum();
        assert_eq!(rest, 0);
    }
}

#[tokio::test]
async fn a_prompt_that_costs_more_than_the_budget_is_counted_and_not_computed() {
    let (mut worker, router, mut bills) = with_budget(10_000_000).await;
    let variable = "x".repeat(400_000);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"max_tokens":1,
            "chat_template_kwargs":{{"date_string":"{variable}"}}}}"#
    );
    let client = router.chat(&body).await;
    let denied = outcome(&answered(&mut worker, client, 100_000).await);
    let missing = denied.unwrap_err();
    assert!(
        missing
            .contains("Limit $0.01, Used $0.00, Left $0.01; this request needs at least $0.500005"),
        "{missing}"
    );
    assert_eq!(bills.next().await.cost_nanodollars, 0);
    // No reservation is left.
    let client = router.chat(CHAT).await;
    assert_eq!(outcome(&answered(&mut worker, client, 11).await), Ok(10));
    router.end().await;
}

#[tokio::test]
async fn a_counted_prompt_holds_what_it_needs_and_no_more() {
    let (mut worker, router, _bills) = with_budget(50 * TOKEN).await;
    // Estimated from its bytes, the prompt costs more than the budget.
    let mut first = router
        .chat(&CHAT.replace("hello", &"hello".repeat(40)))
        .await;
    let call = worker.call().await;
    assert_eq!(work(call, 31).await, None);
    let call = worker.call().await;
    let request = &call.request;
    assert_eq!(
        (request.max_prompt_tokens, request.max_tokens),
        (Some(31), Some(10))
    );
    // The second request is admitted beside it, with the rest of the budget.
    let mut second = router.chat(CHAT).await;
    let other = worker.call().await;
    assert_eq!(work(other, 5).await, None);
    let other = worker.call().await;
    assert_eq!(
        (other.request.max_prompt_tokens, other.request.max_tokens),
        (Some(5), Some(4))
    );
    assert_eq!(work(other, 5).await, Some(4));
    assert_eq!(outcome(&second.answer().await), Ok(4));
    assert_eq!(work(call, 31).await, Some(10));
    assert_eq!(outcome(&first.answer().await), Ok(10));
    router.end().await;
}

#[tokio::test]
async fn a_prompt_is_paid_anew_only_once() {
    let (mut worker, router, _bills) = with_budget(10_000_000).await;
    let mut client = router.chat(CHAT).await;
    for prompt_tokens in [200, 300] {
        let call = worker.call().await;
        call.say(too_expensive(prompt_tokens)).await;
    }
    let message = outcome(&client.answer().await).unwrap_err();
    assert!(message.contains("300 tokens"), "{message}");
    assert!(!worker.was_called());
    router.end().await;
}

#[tokio::test]
async fn a_worker_that_does_not_count_first_is_paid_by_bytes() {
    let (mut worker, router, _bills) = with_template(0, 10_000_000).await;
    let mut client = router.chat(CHAT).await;
    let call = worker.call().await;
    let bytes = u32::try_from(r#"[{"role":"user","content":"Say hello."}]"#.len()).unwrap();
    assert_eq!(call.request.max_prompt_tokens, Some(bytes + 1_024));
    work(call, 11).await;
    assert_eq!(outcome(&client.answer().await), Ok(10));
    router.end().await;
}

#[tokio::test]
async fn shadow_mode_bounds_nothing() {
    let mut worker = ScriptedWorker::start().await;
    let (router, _bills) = TestRouter::planned(&[&worker], |plan| {
        plan.limits.budget_per_month = NonZeroU64::new(1);
        plan.shadow = true;
    })
    .await;
    let mut client = router.chat(CHAT).await;
    let call = worker.call().await;
    assert_eq!(call.request.max_prompt_tokens, None);
    call.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}
