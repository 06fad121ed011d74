//! Requests that wait for worker capacity.

use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::{Model, ONE_SCOPE};
use inferyard_proto::worker::v1::generate_request::Prompt;

use crate::support::{
    Call, Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, add_key, catalog, eventually,
    nothing_is_left, request_with,
};

const FREE: &str = "free";
const OTHER: &str = "other";
const TEAM: &str = "team";

/// A worker with capacity for one request, which is taken.
async fn full_worker() -> ScriptedWorker {
    let worker = ScriptedWorker::start().await;
    worker.becomes(|state| {
        let capacity = state.capacity.as_mut().unwrap();
        (capacity.max_running, capacity.max_queued) = (1, 0);
        state.running = 1;
    });
    worker
}

/// A router with two accounts of the same priority, and one with a higher priority.
async fn three_accounts(worker: &ScriptedWorker) -> TestRouter {
    let mut catalog = catalog(vec![worker.endpoint.clone()]);
    add_key(&mut catalog, FREE, |plan| plan.priority = -5);
    add_key(&mut catalog, OTHER, |plan| plan.priority = -5);
    add_key(&mut catalog, TEAM, |plan| plan.priority = 5);
    let router = TestRouter::unready(catalog, |_| ()).await;
    router.found(1).await;
    router
}

async fn waiting(router: &TestRouter, priority: i32, count: usize) {
    let line = format!(
        "inferyard_router_waiting_requests{{model=\"m\",priority=\"{priority}\"}} {count}\n"
    );
    eventually(async || router.scrape().await.contains(&line)).await;
}

/// Sends a request that contains its key and number, and waits until the router queues it.
async fn ask(router: &TestRouter, key: &str, number: usize) -> Connection {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{key} {number}"}}],"max_tokens":8}}"#
    );
    let mut client = router.connect().await;
    let bytes = request_with(key, "POST", "/v1/chat/completions", &body);
    client.send(&bytes).await;
    client
}

/// The text of the call's prompt.
fn said(call: &Call) -> String {
    let Some(Prompt::Chat(chat)) = &call.request.prompt else {
        return "no chat".to_owned();
    };
    let messages: serde_json::Value = serde_json::from_slice(&chat.messages_json).unwrap();
    messages[0]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_waits_until_a_worker_has_room() {
    for body in [WHOLE, STREAMED] {
        let mut worker = full_worker().await;
        let router = TestRouter::start(&[&worker]).await;
        let mut client = router.chat(body).await;
        waiting(&router, 7, 1).await;
        assert!(!worker.was_called());
        worker.becomes(|state| state.running = 0);
        worker.call().await.say_hello().await;
        assert_eq!(client.answer().await.head.status, 200);
        waiting(&router, 7, 0).await;
        let metrics = router.scrape().await;
        let waits = "inferyard_router_wait_seconds_count{model=\"m\",priority=\"7\"} 1\n";
        assert!(metrics.contains(waits), "{metrics}");
        router.end().await;
    }
}

#[tokio::test]
async fn the_plan_that_goes_first_and_the_account_that_had_least_are_served_in_this_order() {
    let mut worker = full_worker().await;
    let router = three_accounts(&worker).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        clients.push(ask(&router, FREE, number).await);
        waiting(&router, -5, number + 1).await;
    }
    for number in 0..2 {
        clients.push(ask(&router, OTHER, number).await);
        waiting(&router, -5, number + 5).await;
    }
    for number in 0..2 {
        clients.push(ask(&router, TEAM, number).await);
        waiting(&router, 5, number + 1).await;
    }
    worker.becomes(|state| state.running = 0);
    let mut order = Vec::new();
    for _ in 0..clients.len() {
        let call = worker.call().await;
        order.push(said(&call));
        // No other request is dequeued before this one has ended.
        assert!(!worker.was_called());
        call.say_hello().await;
    }
    let expected = [
        "team 0", "team 1", "free 0", "other 0", "free 1", "other 1", "free 2", "free 3",
    ];
    assert_eq!(order, expected);
    for mut client in clients {
        assert_eq!(client.answer().await.head.status, 200);
    }
    router.end().await;
}

#[tokio::test]
async fn who_finds_the_line_full_is_told_when_to_come_back() {
    let mut worker = full_worker().await;
    let (router, mut bills) = TestRouter::planned(&[&worker], |plan| {
        plan.queue.max_requests = 1;
        plan.queue.max_wait = Duration::from_secs(17);
    })
    .await;
    let mut first = router.chat(WHOLE).await;
    waiting(&router, 7, 1).await;
    let answer = router.ask("POST", "/v1/chat/completions", WHOLE).await;
    let (status, code, _) = answer.error();
    assert_eq!(
        (status, code.as_deref()),
        (503, Some("server_is_overloaded"))
    );
    // No request has left the queue yet, so its rate is unknown.
    assert_eq!(answer.head.header("retry-after"), Some("17"));
    assert_eq!(answer.head.header("retry-after-ms"), Some("17000"));
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("1 requests of your plan"), "{message}");
    assert!(message.contains("Try again in 17 seconds."), "{message}");
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (503, "queue_full"));
    assert_eq!((event.prompt_tokens, event.completion_tokens), (0, 0));
    worker.becomes(|state| state.running = 0);
    worker.call().await.say_hello().await;
    assert_eq!(first.answer().await.head.status, 200);
    let metrics = router.scrape().await;
    let refused = "wait_refusals_total{model=\"m\",priority=\"7\",reason=\"queue_full\"} 1\n";
    assert!(metrics.contains(refused), "{metrics}");
    router.end().await;
}

#[tokio::test]
async fn who_has_waited_as_long_as_the_plan_lets_is_told_when_to_come_back() {
    let worker = full_worker().await;
    let (router, mut bills) = TestRouter::planned(&[&worker], |plan| {
        plan.queue.max_wait = Duration::from_millis(20);
    })
    .await;
    for body in [WHOLE, STREAMED] {
        let answer = router.ask("POST", "/v1/chat/completions", body).await;
        let (status, code, _) = answer.error();
        assert_eq!(
            (status, code.as_deref()),
            (503, Some("server_is_overloaded"))
        );
        assert_eq!(answer.head.header("retry-after"), Some("1"));
        let event = bills.next().await;
        assert_eq!((event.status, &*event.code), (503, "wait_over"));
    }
    waiting(&router, 7, 0).await;
    router.end().await;
}

#[tokio::test]
async fn who_leaves_the_line_costs_nothing_and_holds_up_nobody() {
    let mut worker = full_worker().await;
    let (router, mut bills) = TestRouter::planned(&[&worker], |_| ()).await;
    let leaving = router.chat(STREAMED).await;
    waiting(&router, 7, 1).await;
    let mut staying = router.chat(STREAMED).await;
    waiting(&router, 7, 2).await;
    drop(leaving);
    waiting(&router, 7, 1).await;
    let event = bills.next().await;
    assert_eq!((event.status, &*event.code), (499, "client_left"));
    assert_eq!((event.prompt_tokens, event.completion_tokens), (0, 0));
    worker.becomes(|state| state.running = 0);
    worker.call().await.say_hello().await;
    assert_eq!(staying.answer().await.head.status, 200);
    assert!(!worker.was_called());
    router.end().await;
}

#[tokio::test]
async fn a_hundred_that_leave_the_line_at_once_leave_nothing_behind() {
    let mut worker = full_worker().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(router.chat(STREAMED).await);
    }
    waiting(&router, 7, 100).await;
    // Some requests are dequeued while their clients disconnect.
    worker.becomes(|state| {
        state.capacity.as_mut().unwrap().max_running = 1_000;
        state.running = 0;
    });
    drop(clients);
    waiting(&router, 7, 0).await;
    nothing_is_left(&router).await;
    while worker.was_called() {}
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn nobody_waits_for_a_model_that_is_gone() {
    let worker = full_worker().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(WHOLE).await;
    waiting(&router, 7, 1).await;
    let mut without = catalog(vec![]);
    without.models.clear();
    without.names.clear();
    let other = Model::new("another", 1);
    without.add(&ONE_SCOPE.into(), other, ["another".into()]);
    router.catalog.send_replace(Arc::new(without));
    let answer = client.answer().await;
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_deref()), (503, Some("no_worker")));
    router.end().await;
}

#[tokio::test]
async fn those_who_wait_are_served_while_the_router_drains() {
    let mut worker = full_worker().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(WHOLE).await;
    waiting(&router, 7, 1).await;
    router.shutdown.cancel();
    worker.becomes(|state| state.running = 0);
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}
