//! Bills: each request is billed once, however it ends.

use inferyard_admission::LimitStore;
use inferyard_catalog::Price;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_proto::worker::v1::failed::Kind;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Failed, Usage};
use tokio::sync::mpsc;

use crate::support::{
    Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, admitted, choice_finished, delta,
    failed, finished, request, usage, within,
};

/// Prompt, cached and completion tokens, and the cost at $1, $0.50 and $2 per million tokens.
fn tokens(event: &UsageEvent) -> [u64; 4] {
    [
        event.prompt_tokens,
        event.cached_tokens,
        event.completion_tokens,
        event.cost_nanodollars,
    ]
}

fn end(event: &UsageEvent) -> (u32, &str) {
    (event.status, &event.code)
}

async fn one_worker() -> (ScriptedWorker, TestRouter, crate::support::Bills) {
    let worker = ScriptedWorker::start().await;
    let (router, bills) = TestRouter::planned(&[&worker], |plan| {
        plan.price = Price::new("plan", 1_000, 500, 2_000);
    })
    .await;
    (worker, router, bills)
}

#[tokio::test]
async fn an_answer_is_billed_with_all_that_is_known_of_it() {
    let (mut worker, router, mut bills) = one_worker().await;
    for body in [STREAMED, WHOLE] {
        let mut client = router.chat(body).await;
        worker.call().await.say_hello().await;
        let answer = client.answer().await;
        // The bill is written before the client gets the end of its answer.
        assert!(!bills.is_empty());
        let event = bills.next().await;
        assert_eq!(tokens(&event), [10, 4, 2, 6 * 1_000 + 4 * 500 + 2 * 2_000]);
        assert_eq!(end(&event), (200, "ok"));
        assert_eq!(Some(&*event.request_id), answer.head.header("x-request-id"));
        assert_eq!(
            [&*event.account, &*event.key, &*event.plan, &*event.model],
            ["account", "My API Key", "plan", "m"]
        );
        assert_eq!(event.endpoint, "/v1/chat/completions");
        assert_eq!(event.stream, body == STREAMED);
        assert_eq!(event.worker_instance, 1);
        let price = event.price.unwrap();
        assert_eq!(
            [price.input, price.cached_input, price.output],
            [1_000, 500, 2_000]
        );
        assert_eq!(
            price.version,
            Price::new("plan", 1_000, 500, 2_000).version.as_ref()
        );
        assert!(event.admitted_us > 0 && event.ended_us >= event.admitted_us);
        assert!(event.first_token_us > 0);
    }
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn what_was_produced_before_a_failure_is_billed() {
    let (mut worker, router, mut bills) = one_worker().await;
    for (body, status) in [(STREAMED, 200), (WHOLE, 500)] {
        let mut client = router.chat(body).await;
        let call = worker.call().await;
        call.say(admitted(10, 0)).await;
        call.say(delta("Hello")).await;
        // The worker has produced more than it sent.
        let used = Usage {
            prompt_tokens: 10,
            cached_tokens: 0,
            completion_tokens: 3,
            reasoning_tokens: 1,
        };
        let broke = Failed {
            kind: Kind::Internal.into(),
            usage: Some(used),
            ..Failed::default()
        };
        call.say(Event::Failed(broke)).await;
        assert_eq!(client.answer().await.head.status, status);
        let event = bills.next().await;
        assert_eq!(tokens(&event), [10, 0, 3, 16_000]);
        assert_eq!(event.reasoning_tokens, 1);
        assert_eq!(end(&event), (u32::from(status), "worker_internal"));
    }
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn a_client_that_leaves_pays_what_was_produced() {
    let (mut worker, router, mut bills) = one_worker().await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    client.head().await;
    client.piece().await;
    drop(client);
    call.cancelled().await;
    // This token was already on its way when the request was cancelled.
    call.say(delta(" world")).await;
    assert!(bills.is_empty(), "the worker has not said all of it");
    call.ends_when_cancelled(usage(10, 4, 8)).await;
    let event = bills.next().await;
    assert_eq!(tokens(&event), [10, 4, 8, 6 * 1_000 + 4 * 500 + 8 * 2_000]);
    assert_eq!(end(&event), (200, "client_left"));

    // A client of a non-streamed answer disconnects before the prompt is counted.
    let client = router.chat(WHOLE).await;
    let call = worker.call().await;
    drop(client);
    call.ends_when_cancelled(usage(10, 0, 3)).await;
    let event = bills.next().await;
    assert_eq!(tokens(&event), [10, 0, 3, 16_000]);
    assert_eq!(end(&event), (499, "client_left"));

    // A client disconnects while its request waits in the worker's queue.
    let client = router.chat(WHOLE).await;
    let call = worker.call().await;
    drop(client);
    call.ends_when_cancelled(usage(0, 0, 0)).await;
    assert_eq!(tokens(&bills.next().await), [0; 4]);

    // A client disconnects from an answer that completes before the cancellation takes effect.
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(delta("Hello")).await;
    client.head().await;
    drop(client);
    call.cancelled().await;
    call.say(choice_finished()).await;
    call.say(finished(10, 0, 2)).await;
    assert_eq!(tokens(&bills.next().await), [10, 0, 2, 14_000]);
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn what_a_worker_does_not_tell_of_a_leaver_is_billed_as_far_as_it_was_seen() {
    let (mut worker, router, mut bills) = one_worker().await;
    // The worker continues and never reports its final usage.
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    client.head().await;
    client.piece().await;
    drop(client);
    call.cancelled().await;
    call.say(delta(" world")).await;
    call.dropped().await;
    assert_eq!(tokens(&bills.next().await), [10, 0, 2, 14_000]);

    // The worker dies after the cancellation; the client had not received a token.
    let client = router.chat(STREAMED).await;
    let call = worker.call().await;
    drop(client);
    call.cancelled().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    drop(call);
    let event = bills.next().await;
    assert_eq!(tokens(&event), [10, 0, 1, 12_000]);
    assert_eq!(end(&event), (499, "client_left"));
    let client = router.chat(STREAMED).await;
    let call = worker.call().await;
    drop(client);
    call.cancelled().await;
    worker.kill();
    assert_eq!(tokens(&bills.next().await), [0; 4]);
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn what_the_router_breaks_off_is_billed_to_the_token() {
    let mut worker = ScriptedWorker::start().await;
    let (router, mut bills) = TestRouter::planned_and_configured(
        &[&worker],
        |plan| plan.price = Price::new("plan", 1_000, 500, 2_000),
        |config| config.request_timeout = std::time::Duration::from_millis(100),
    )
    .await;
    for (body, status) in [(STREAMED, 200), (WHOLE, 504)] {
        let mut client = router.chat(body).await;
        let call = worker.call().await;
        call.say(admitted(10, 0)).await;
        call.say(delta("Hello")).await;
        call.ends_when_cancelled(usage(10, 0, 5)).await;
        assert_eq!(client.answer().await.head.status, status);
        assert!(!bills.is_empty(), "whoever has the end finds it billed");
        let event = bills.next().await;
        assert_eq!(tokens(&event), [10, 0, 5, 20_000]);
        assert_eq!(end(&event), (u32::from(status), "deadline_exceeded"));
    }
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn a_request_that_was_tried_again_is_billed_once_by_who_answered() {
    let workers = [ScriptedWorker::start().await, ScriptedWorker::start().await];
    for (index, worker) in workers.iter().enumerate() {
        worker.becomes(|state| state.instance_id = 100 + index as u64);
    }
    let (router, mut bills) = TestRouter::planned(&[&workers[0], &workers[1]], |plan| {
        plan.price = Price::new("plan", 1_000, 500, 2_000);
    })
    .await;
    let [mut one, mut two] = workers;
    let mut client = router.chat(WHOLE).await;
    let (call, other, boot) = tokio::select! {
        call = one.call() => (call, &mut two, 101),
        call = two.call() => (call, &mut one, 100),
    };
    call.say(admitted(99, 0)).await;
    call.say(failed(Kind::Internal, "for the log", "")).await;
    other.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    let event = bills.next().await;
    assert_eq!(tokens(&event), [10, 4, 2, 12_000]);
    assert_eq!(event.worker_instance, boot);
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn what_nothing_came_of_costs_nothing_and_is_on_record() {
    let (mut worker, router, mut bills) = one_worker().await;
    let mut client = router.chat(WHOLE).await;
    let call = worker.call().await;
    call.say(failed(Kind::ContextLengthExceeded, "too long", "messages"))
        .await;
    assert_eq!(client.answer().await.head.status, 400);
    let event = bills.next().await;
    assert_eq!(tokens(&event), [0; 4]);
    assert_eq!(end(&event), (400, "context_length_exceeded"));
    // The prompt is not billed either if the worker ends the stream without a result.
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    drop(call);
    assert_eq!(client.answer().await.head.status, 500);
    let event = bills.next().await;
    assert_eq!(tokens(&event), [0; 4]);
    assert_eq!(end(&event), (500, "worker_contract"));
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn what_is_refused_before_is_not_on_record() {
    let worker = ScriptedWorker::start().await;
    let (router, bills) = TestRouter::planned(&[&worker], |plan| {
        plan.limits.tokens_per_minute = std::num::NonZeroU64::new(1);
    })
    .await;
    let chat = "/v1/chat/completions";
    for (body, status) in [("{}", 400), (WHOLE, 429)] {
        let answer = router.ask("POST", chat, body).await;
        assert_eq!(answer.head.status, status);
    }
    let mut client = router.connect().await;
    let wrong = String::from_utf8(request("POST", chat, WHOLE)).unwrap();
    client
        .send(wrong.replace("My API Key", "wrong").as_bytes())
        .await;
    assert_eq!(client.answer().await.head.status, 401);
    router.end().await;
    assert_eq!(bills.rest().await, []);
}

#[tokio::test]
async fn a_router_that_ends_bills_what_it_cut() {
    let worker = ScriptedWorker::start().await;
    let (router, bills) = TestRouter::planned_and_configured(
        &[&worker],
        |_| (),
        |config| config.drain_timeout = std::time::Duration::from_millis(10),
    )
    .await;
    let mut worker = worker;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    client.head().await;
    client.piece().await;
    let ends = call.ends_when_cancelled(usage(10, 0, 3));
    tokio::join!(ends, within(router.end()));
    assert!(client.rest().await.ends_with("data: [DONE]\n\n"));
    let events = bills.rest().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].completion_tokens, 3);
    assert_eq!(end(&events[0]), (200, "shutting_down"));
}

#[tokio::test]
async fn a_ledger_that_takes_nothing_holds_up_no_answer_and_nobody_new_is_let_in() {
    let mut worker = ScriptedWorker::start().await;
    let (outbox, mut entries) = mpsc::channel(4);
    let router = TestRouter::configured(&[&worker], |config| {
        config.limits.store = LimitStore::Memory {
            outbox: Some(outbox),
        };
    })
    .await;
    let mut clients = Vec::new();
    for body in [STREAMED, WHOLE, STREAMED] {
        let client = router.chat(body).await;
        clients.push((client, worker.call().await));
    }
    for (mut client, call) in clients {
        call.say_hello().await;
        let answer = client.answer().await;
        assert_eq!(answer.head.status, 200);
        let text = answer.text();
        let is_whole = text.ends_with("data: [DONE]\n\n") || text.ends_with('}');
        assert!(is_whole, "{text}");
    }

    let answer = router.ask("POST", "/v1/chat/completions", WHOLE).await;
    let (status, code, _) = answer.error();
    assert_eq!(
        (status, code.as_deref()),
        (503, Some("server_is_overloaded"))
    );
    assert_eq!(answer.head.header("retry-after"), Some("5"));
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("the ledger's database"), "{message}");
    let mut probe = Connection::open(router.metrics).await;
    probe
        .send(b"GET /readyz?router HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let ready = probe.answer().await;
    assert_eq!(ready.head.status, 503);
    let message = ready.json()["message"].to_string();
    assert!(message.contains("the ledger's database"), "{message}");

    // The ledger accepts entries again, so the router serves again.
    for _ in 0..3 {
        within(entries.recv()).await.unwrap();
    }
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}
