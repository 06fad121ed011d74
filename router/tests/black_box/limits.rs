//! Limits, from the client's side.

use std::num::NonZeroU64;

use inferyard_admission::LimitStore;
use inferyard_catalog::{Limits, Plan, Price};
use inferyard_proto::worker::v1::Failed;
use inferyard_proto::worker::v1::failed::Kind;
use inferyard_proto::worker::v1::generate_event::Event;

use crate::support::{
    Answer, Bills, Call, Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, add_key,
    admitted, catalog, choice_finished, delta, eventually, finished, request, request_with, usage,
};

const CHAT: &str = "/v1/chat/completions";

async fn limited(change: impl FnOnce(&mut Limits)) -> (ScriptedWorker, TestRouter) {
    planned(|plan| change(&mut plan.limits)).await
}

async fn planned(change: impl FnOnce(&mut Plan)) -> (ScriptedWorker, TestRouter) {
    let worker = ScriptedWorker::start().await;
    let (router, _) = TestRouter::planned_and_configured(&[&worker], change, |config| {
        config.limits.store = LimitStore::Memory { outbox: None };
    })
    .await;
    (worker, router)
}

fn limit(value: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(value)
}

/// Sends a request and answers it.
async fn served(router: &TestRouter, worker: &mut ScriptedWorker, body: &str) -> Answer {
    let mut client = router.chat(body).await;
    worker.call().await.say_hello().await;
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200);
    answer
}

/// Status, type and code of an error.
fn kind(answer: &Answer) -> (u16, String, String) {
    let (status, code, _) = answer.error();
    let kind = answer.json()["error"]["type"].as_str().unwrap().to_owned();
    (status, kind, code.unwrap())
}

#[tokio::test]
async fn answers_tell_how_much_is_left() {
    let (mut worker, router) = limited(|limits| {
        limits.requests_per_day = limit(10_000);
        limits.tokens_per_minute = limit(200_000);
    })
    .await;
    for body in [WHOLE, STREAMED] {
        let head = served(&router, &mut worker, body).await.head;
        assert_eq!(head.header("x-ratelimit-limit-requests"), Some("10000"));
        assert_eq!(head.header("x-ratelimit-limit-tokens"), Some("200000"));
        let exposed = head.header("access-control-expose-headers").unwrap();
        for (name, _) in head.starting_with("x-ratelimit-") {
            assert!(exposed.contains(name), "{name}");
        }
    }
    let answer = served(&router, &mut worker, WHOLE).await;
    let used = answer
        .head
        .header("x-ratelimit-remaining-requests")
        .unwrap();
    assert_eq!(used, "9997");
    let reset = answer.head.header("x-ratelimit-reset-requests").unwrap();
    // Three requests at 8.64 s each, minus what has refilled since.
    assert!(
        reset.starts_with("25.") || reset.starts_with("24."),
        "{reset}"
    );
    // An error after the reservation has the headers too, one before it does not.
    worker.kill();
    eventually(async || router.ask("GET", "/readyz", "").await.head.status == 503).await;
    let late = router.ask("POST", CHAT, WHOLE).await;
    assert_eq!(late.head.status, 503);
    assert_eq!(
        late.head.header("x-ratelimit-remaining-requests"),
        Some("9996")
    );
    let early = router.ask("POST", CHAT, "{}").await;
    assert_eq!(early.head.status, 400);
    assert_eq!(early.head.starting_with("x-ratelimit-").count(), 0);
    router.end().await;
}

#[tokio::test]
async fn a_plan_without_limits_has_no_headers_of_them() {
    let (mut worker, router) = planned(|_| ()).await;
    let head = served(&router, &mut worker, WHOLE).await.head;
    assert_eq!(head.starting_with("x-ratelimit-").count(), 0);
    router.end().await;
}

/// A limit, type and code, message, and `x-should-retry`.
type Case = (
    fn(&mut Limits),
    &'static str,
    &'static str,
    Option<&'static str>,
);

fn each_limit() -> [Case; 5] {
    [
        (
            |limits| limits.requests_per_minute = limit(1),
            "requests rate_limit_exceeded",
            "on requests per min (RPM): Limit 1, Used 1, Requested 1. Please try again in ",
            None,
        ),
        (
            |limits| limits.requests_per_day = limit(1),
            "requests rate_limit_exceeded",
            "on requests per day (RPD): Limit 1, Used 1, Requested 1. Please try again in ",
            Some("false"),
        ),
        (
            |limits| limits.requests_total = limit(1),
            "requests rate_limit_exceeded",
            "on requests in total: Limit 1, Used 1, Requested 1.",
            Some("false"),
        ),
        (
            |limits| limits.tokens_per_minute = limit(60),
            "tokens rate_limit_exceeded",
            "on tokens per min (TPM): Limit 60, Used 12, Requested 60. Please try again in ",
            None,
        ),
        (
            |limits| limits.tokens_per_day = limit(60),
            "tokens rate_limit_exceeded",
            "on tokens per day (TPD): Limit 60, Used 12, Requested 60. Please try again in ",
            Some("false"),
        ),
    ]
}

#[tokio::test]
async fn every_limit_denies_with_its_own_error() {
    for (change, expected, says, should_retry) in each_limit() {
        let (mut worker, router) = limited(change).await;
        served(&router, &mut worker, WHOLE).await;
        let denied = router.ask("POST", CHAT, WHOLE).await;
        let (status, kind, code) = kind(&denied);
        assert_eq!(
            (status, format!("{kind} {code}")),
            (429, expected.to_owned())
        );
        let message = denied.message();
        let begin = "Rate limit reached for m in organization account ";
        assert!(message.starts_with(&format!("{begin}{says}")), "{message}");
        assert_eq!(
            denied.head.header("x-should-retry"),
            should_retry,
            "{message}"
        );
        let forever = message.contains("in total");
        assert_eq!(denied.head.header("retry-after").is_none(), forever);
        assert_eq!(denied.head.header("retry-after-ms").is_none(), forever);
        assert!(denied.head.starting_with("x-ratelimit-remaining-").count() > 0);
        assert!(!worker.was_called());
        router.end().await;
    }
}

#[tokio::test]
async fn what_is_larger_than_its_limit_is_told_so() {
    let (worker, router) = limited(|limits| limits.tokens_per_minute = limit(100)).await;
    let body = WHOLE.replace("}]", "}],\"max_tokens\":500");
    let denied = router.ask("POST", CHAT, &body).await;
    assert_eq!(
        kind(&denied),
        (429, "tokens".into(), "rate_limit_exceeded".into())
    );
    let message = denied.message();
    assert!(
        message.starts_with("Request too large for m in organization account"),
        "{message}"
    );
    assert_eq!(denied.head.header("x-should-retry"), Some("false"));
    assert_eq!(denied.head.header("retry-after"), None);
    drop(worker);
    router.end().await;
}

#[tokio::test]
async fn of_a_hundred_at_once_exactly_ten_are_let_in_by_a_total_of_ten() {
    let (mut worker, router) = limited(|limits| limits.requests_total = limit(10)).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = router.connect().await;
        clients.push(tokio::spawn({
            let request = request("POST", CHAT, WHOLE);
            async move {
                client.send(&request).await;
                client.answer().await.head.status
            }
        }));
    }
    for _ in 0..10 {
        worker.call().await.say_hello().await;
    }
    let mut let_in = 0;
    for client in clients {
        match client.await.unwrap() {
            200 => let_in += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(let_in, 10);
    assert!(!worker.was_called());
    router.end().await;
}

/// A streamed answer that has begun.
async fn begun(
    router: &TestRouter,
    worker: &mut ScriptedWorker,
) -> (crate::support::Connection, Call) {
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    assert_eq!(client.head().await.status, 200);
    (client, call)
}

#[tokio::test]
async fn a_place_is_free_again_when_its_client_has_left() {
    let (mut worker, router) = limited(|limits| limits.concurrent_requests = limit(1)).await;
    let (client, call) = begun(&router, &mut worker).await;
    let denied = router.ask("POST", CHAT, WHOLE).await;
    assert_eq!(
        kind(&denied),
        (429, "requests".into(), "rate_limit_exceeded".into())
    );
    assert!(
        denied
            .message()
            .contains("when one of your requests has ended")
    );
    assert_eq!(denied.head.header("retry-after"), Some("1"));
    assert_eq!(
        denied.head.header("x-ratelimit-remaining-concurrent"),
        Some("0")
    );
    drop(client);
    call.cancelled().await;
    // Denied requests have no effect: they never reach the worker.
    eventually(async || {
        let mut client = router.chat(STREAMED).await;
        tokio::select! {
            call = worker.call() => {
                call.say_hello().await;
                assert_eq!(client.answer().await.head.status, 200);
                true
            }
            head = client.head() => {
                assert_eq!(head.status, 429);
                false
            }
        }
    })
    .await;
    router.end().await;
}

#[tokio::test]
async fn who_has_the_end_of_an_answer_has_its_place_back() {
    let (mut worker, router) = limited(|limits| limits.concurrent_requests = limit(1)).await;
    for _ in 0..50 {
        for body in [STREAMED, WHOLE] {
            served(&router, &mut worker, body).await;
        }
        let mut client = router.chat(WHOLE).await;
        let call = worker.call().await;
        drop(call);
        assert_eq!(client.answer().await.head.status, 500);
    }
    router.end().await;
}

#[tokio::test]
async fn a_small_budget_makes_answers_short_and_is_never_exceeded() {
    // The prompt costs at most (its bytes + 1,024) × $0.01, a completion token $1.
    let cent = 10_000_000;
    let prompt = (44 + 1_024) * cent;
    let (mut worker, router) = planned(|plan| {
        plan.price = Price::new("plan", cent, cent, 100 * cent);
        plan.limits.budget_per_month = limit(prompt + 2_000_000_000 + 500_000_000);
    })
    .await;
    let mut client = router.chat(WHOLE).await;
    let call = worker.call().await;
    let most = call.request.max_tokens.unwrap();
    // $2.50, plus the difference between the bound of the prompt and its true bytes.
    assert!((2..=3).contains(&most), "{most}");
    call.say(admitted(1_000, 0)).await;
    call.say(delta("Hello")).await;
    call.say(crate::support::choice_finished()).await;
    call.say(crate::support::finished(1_000, 0, 1)).await;
    drop(call);
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200);
    // The whole budget was reserved.
    assert_eq!(
        answer.head.header("x-ratelimit-remaining-spend"),
        Some("0.00")
    );
    // $11 are spent; the rest is less than the maximum price of a prompt and a token.
    let denied = router.ask("POST", CHAT, WHOLE).await;
    let quota = "insufficient_quota".to_owned();
    assert_eq!(kind(&denied), (429, quota.clone(), quota));
    assert_eq!(denied.head.header("x-should-retry"), Some("false"));
    assert!(
        denied.message().contains("Limit $13.18, Used $11.00"),
        "{}",
        denied.message()
    );
    router.end().await;
}

#[tokio::test]
async fn a_plan_in_the_shadow_counts_and_denies_nothing() {
    let (mut worker, router) = planned(|plan| {
        plan.shadow = true;
        plan.limits.requests_per_minute = limit(1);
    })
    .await;
    for _ in 0..3 {
        let head = served(&router, &mut worker, WHOLE).await.head;
        assert_eq!(head.header("x-ratelimit-remaining-requests"), Some("0"));
    }
    router.end().await;
}

#[tokio::test]
async fn a_key_may_be_narrower_than_its_plan() {
    let (mut worker, router) = limited(|limits| limits.requests_total = limit(10)).await;
    router.catalog.send_modify(|catalog| {
        let mut next = inferyard_catalog::Catalog::clone(catalog);
        for key in next.keys.values_mut() {
            let mut narrow = inferyard_catalog::Key::clone(key);
            narrow.limits = Some(Limits {
                requests_total: limit(2),
                ..Limits::default()
            });
            narrow.plan = std::sync::Arc::new(Plan {
                priority: 8,
                ..Plan::clone(&key.plan)
            });
            *key = std::sync::Arc::new(narrow);
        }
        *catalog = std::sync::Arc::new(next);
    });
    // Catalogs are applied concurrently with requests; the priority that the worker gets shows when.
    let mut narrow = 0;
    while narrow < 2 {
        let mut client = router.chat(WHOLE).await;
        let call = worker.call().await;
        narrow += u32::from(call.request.priority == 8);
        call.say_hello().await;
        assert_eq!(client.answer().await.head.status, 200);
    }
    let denied = router.ask("POST", CHAT, WHOLE).await;
    assert!(
        denied.message().contains("Limit 2, Used 2"),
        "{}",
        denied.message()
    );
    router.end().await;
}

/// Remaining tokens of the limit of 100,000 while the prompt of this request is not counted yet.
async fn left_of_a_prompt(
    router: &TestRouter,
    worker: &mut ScriptedWorker,
    key: &str,
    content: usize,
) -> u64 {
    let content = "word ".repeat(content / 5);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{content}"}}],"max_tokens":1}}"#
    );
    let mut client = router.connect().await;
    client.send(&request_with(key, "POST", CHAT, &body)).await;
    let call = worker.call().await;
    call.say(delta("x")).await;
    call.say(choice_finished()).await;
    call.say(finished(1, 0, 1)).await;
    drop(call);
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200);
    let left = answer.head.header("x-ratelimit-remaining-tokens");
    left.unwrap().parse().unwrap()
}

/// Two accounts with 100,000 tokens per minute each, and a model with a template of 30 tokens.
async fn two_accounts() -> (ScriptedWorker, TestRouter) {
    let worker = ScriptedWorker::start().await;
    worker.becomes(|state| {
        let capacity = state.capacity.as_mut().unwrap();
        (capacity.context_length, capacity.template_tokens) = (1 << 17, 30);
    });
    let mut catalog = catalog(vec![worker.endpoint.clone()]);
    for account in ["mallory", "victim"] {
        add_key(&mut catalog, account, |plan| {
            plan.limits.tokens_per_minute = limit(100_000);
        });
    }
    let router = TestRouter::unready(catalog, |_| ()).await;
    router.found(1).await;
    (worker, router)
}

#[tokio::test]
async fn variables_of_one_account_s_template_do_not_change_what_another_s_prompt_holds() {
    let (mut worker, router) = two_accounts().await;
    let variable = "x".repeat(400_000);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"max_tokens":1,
            "chat_template_kwargs":{{"date_string":"{variable}"}}}}"#
    );
    // A quarter of the variable's bytes exceeds the limit, so the variable is part of the estimate.
    let mut client = router.connect().await;
    client
        .send(&request_with("mallory", "POST", CHAT, &body))
        .await;
    assert_eq!(client.answer().await.head.status, 429);
    // An account without limits may send it, and an engine may count it arbitrarily.
    let mut client = router.chat(&body).await;
    let call = worker.call().await;
    call.say(admitted(100_000, 0)).await;
    call.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    let left = left_of_a_prompt(&router, &mut worker, "victim", 60_000).await;
    assert!((84_900..=85_000).contains(&left), "{left}");
    router.end().await;
}

#[tokio::test]
async fn short_chats_do_not_change_what_a_long_prompt_holds() {
    let (mut worker, router) = two_accounts().await;
    let mut client = router.connect().await;
    for number in 0..400 {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"hi {number}"}}],"max_tokens":1}}"#
        );
        client
            .send(&request_with("victim", "POST", CHAT, &body))
            .await;
        let call = worker.call().await;
        call.say(admitted(38, 0)).await;
        call.say(delta("x")).await;
        call.say(choice_finished()).await;
        call.say(finished(38, 0, 1)).await;
        drop(call);
        assert_eq!(client.answer().await.head.status, 200);
    }
    // 90,000 bytes; the chats before used 15,600 tokens, some of which have refilled.
    let left = left_of_a_prompt(&router, &mut worker, "victim", 90_000).await;
    assert!((60_000..=78_000).contains(&left), "{left}");
    router.end().await;
}

/// Requests with this key that the router itself refuses, and their statuses.
fn faulty(key: &str) -> Vec<(Vec<u8>, u16)> {
    let of = |body: &str| request_with(key, "POST", CHAT, body);
    let change = |from: &str, to: &str| {
        let text = String::from_utf8(of(WHOLE)).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    };
    vec![
        (of("{}"), 400),
        (of("not JSON"), 400),
        (of(&WHOLE.replace("\"m\"", "\"unknown\"")), 400),
        (change("application/json", "text/plain"), 415),
        (change("host: x", "host: x\r\ncontent-encoding: gzip"), 415),
        (of(&"x".repeat(5_000)), 413),
    ]
}

/// A router with a body limit of 4 KiB, and keys on these plans.
async fn with_keys(
    worker: &ScriptedWorker,
    keys: &[&str],
    mut change: impl FnMut(&mut Plan),
) -> (TestRouter, Bills) {
    let mut catalog = catalog(vec![worker.endpoint.clone()]);
    for key in keys {
        add_key(&mut catalog, key, &mut change);
    }
    let (outbox, bills) = Bills::channel();
    let router = TestRouter::unready(catalog, |config| {
        config.limits.store = LimitStore::Memory {
            outbox: Some(outbox),
        };
        config.body_limit = 4_096;
    })
    .await;
    router.found(1).await;
    (router, bills)
}

/// A worker's refusal after the prompt was computed.
async fn refuse(call: &Call) {
    call.say(admitted(900, 0)).await;
    call.say(Event::Failed(Failed {
        kind: Kind::InvalidRequest.into(),
        usage: Some(usage(900, 0, 0)),
        ..Failed::default()
    }))
    .await;
}

async fn send(router: &TestRouter, bytes: &[u8]) -> Connection {
    let mut client = router.connect().await;
    client.send(bytes).await;
    client
}

#[tokio::test]
async fn what_is_refused_costs_no_tokens_no_money_and_no_request_of_the_day() {
    let mut worker = ScriptedWorker::start().await;
    let (router, mut bills) = with_keys(&worker, &["one"], |plan| {
        plan.limits.requests_per_day = limit(1);
        plan.limits.requests_total = limit(1);
        plan.limits.tokens_per_day = limit(2_000);
        plan.limits.concurrent_requests = limit(1);
        plan.limits.budget_per_month = limit(1_000_000_000);
    })
    .await;
    for (bytes, status) in faulty("one") {
        let answer = send(&router, &bytes).await.answer().await;
        assert_eq!(answer.head.status, status);
    }
    let mut client = send(&router, &request_with("one", "POST", CHAT, WHOLE)).await;
    refuse(&worker.call().await).await;
    assert_eq!(client.answer().await.head.status, 400);
    let bill = bills.next().await;
    assert_eq!(bill.status, 400);
    assert_eq!((bill.prompt_tokens, bill.cost_nanodollars), (0, 0));
    // The only request of the day, with nearly all of the day's tokens.
    let body = WHOLE.replace("}]}", "}],\"max_tokens\":1900}");
    let mut client = send(&router, &request_with("one", "POST", CHAT, &body)).await;
    worker.call().await.say_hello().await;
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200);
    let left = answer.head.header("x-ratelimit-remaining-requests");
    assert_eq!(left, Some("0"));
    router.end().await;
}

#[tokio::test]
async fn what_is_refused_is_a_request_of_the_minute() {
    let mut worker = ScriptedWorker::start().await;
    let keys: Vec<String> = (0..7).map(|number| format!("key-{number}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (router, _bills) = with_keys(&worker, &names, |plan| {
        plan.limits.requests_per_minute = limit(1);
    })
    .await;
    for (number, name) in names.iter().enumerate() {
        let answer = if let Some((bytes, status)) = faulty(name).get(number) {
            let answer = send(&router, bytes).await.answer().await;
            assert_eq!(answer.head.status, *status);
            answer
        } else {
            let mut client = send(&router, &request_with(name, "POST", CHAT, WHOLE)).await;
            refuse(&worker.call().await).await;
            client.answer().await
        };
        assert!(answer.head.status < 429, "{}", answer.head.status);
        // The minute is used up, also for requests that would be refused anyway.
        for body in [WHOLE, "{}"] {
            let bytes = request_with(name, "POST", CHAT, body);
            let answer = send(&router, &bytes).await.answer().await;
            assert_eq!(answer.head.status, 429, "{number}");
            assert!(answer.message().contains("(RPM)"), "{}", answer.message());
        }
    }
    router.end().await;
}
