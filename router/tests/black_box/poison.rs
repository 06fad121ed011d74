//! A request that crashes workers or engines crashes at most two, and is refused after that.

use inferyard_proto::worker::v1::failed::Kind;

use crate::support::{
    Answer, Call, Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, add_key, admitted,
    catalog, delta, failed, request_with,
};

const CODE: &str = "request_crashes_engine";
const ANOTHER: &str = r#"{"model":"m","messages":[{"role":"user","content":"Say more."}]}"#;

async fn three_workers() -> (Vec<ScriptedWorker>, TestRouter) {
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(ScriptedWorker::start().await);
    }
    let endpoints = workers.iter().map(|worker| worker.endpoint.clone());
    let mut catalog = catalog(endpoints.collect());
    add_key(&mut catalog, "another account", |_| ());
    let router = TestRouter::unready(catalog, |_| ()).await;
    router.found(3).await;
    (workers, router)
}

/// The next call of any worker, and the index of that worker.
async fn call_of(workers: &mut [ScriptedWorker]) -> (Call, usize) {
    let [one, two, three] = workers else {
        unreachable!("there are three workers");
    };
    tokio::select! {
        call = one.call() => (call, 0),
        call = two.call() => (call, 1),
        call = three.call() => (call, 2),
    }
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.error(), (400, Some(CODE.to_owned()), None));
    assert_eq!(answer.head.header("x-should-retry"), Some("false"));
}

async fn answered(mut client: Connection, workers: &mut [ScriptedWorker]) {
    let (call, _) = call_of(workers).await;
    call.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
}

#[tokio::test]
async fn a_request_that_alone_ended_two_workers_is_refused() {
    let (mut workers, router) = three_workers().await;
    let mut client = router.chat(WHOLE).await;
    // Kept until the worker is dead: a dropped call would end its stream normally.
    let mut calls = Vec::new();
    for _ in 0..2 {
        let (call, index) = call_of(&mut workers).await;
        workers[index].kill();
        calls.push(call);
    }
    is_refused(&client.answer().await);
    // The second time it is refused without reaching a worker.
    is_refused(&router.ask("POST", "/v1/chat/completions", WHOLE).await);
    assert!(!workers.iter_mut().any(ScriptedWorker::was_called));
    // Other requests are served, and so is the same request of another account.
    answered(router.chat(ANOTHER).await, &mut workers).await;
    let mut client = router.connect().await;
    let path = "/v1/chat/completions";
    client
        .send(&request_with("another account", "POST", path, WHOLE))
        .await;
    answered(client, &mut workers).await;
    router.end().await;
}

#[tokio::test]
async fn a_request_that_alone_ended_two_engines_is_refused() {
    // Two crashes in one request, and in two requests: after the first token no other worker takes over.
    for begun in [false, true] {
        let (mut workers, router) = three_workers().await;
        for last in [false, true] {
            let mut client = router.chat(STREAMED).await;
            let (call, _) = call_of(&mut workers).await;
            call.say(admitted(10, 0)).await;
            if begun {
                call.say(delta("Hel")).await;
            }
            call.say(failed(Kind::EngineCrashed, "SECRET", "")).await;
            drop(call);
            if begun {
                let body = {
                    client.head().await;
                    client.rest().await
                };
                assert_eq!(body.contains(CODE), last, "{body}");
                assert!(!body.contains("SECRET"), "{body}");
                continue;
            }
            let (call, _) = call_of(&mut workers).await;
            call.say(failed(Kind::EngineCrashed, "SECRET", "")).await;
            drop(call);
            is_refused(&client.answer().await);
            break;
        }
        is_refused(&router.ask("POST", "/v1/chat/completions", STREAMED).await);
        assert!(!workers.iter_mut().any(ScriptedWorker::was_called));
        router.end().await;
    }
}

#[tokio::test]
async fn a_request_among_others_is_not_blamed_and_ends_two_workers_at_most() {
    let (mut workers, router) = three_workers().await;
    // Each worker runs at least one other request.
    let mut others = Vec::new();
    let mut busy = [false; 3];
    while busy != [true; 3] {
        let body = STREAMED.replace("hello", &format!("hello {}", others.len()));
        let mut client = router.chat(&body).await;
        let (call, index) = call_of(&mut workers).await;
        call.say(delta("Hel")).await;
        client.head().await;
        busy[index] = true;
        others.push((client, call));
    }
    let mut client = router.chat(WHOLE).await;
    // Kept until the worker is dead: a dropped call would end its stream normally.
    let mut calls = Vec::new();
    for _ in 0..2 {
        let (call, index) = call_of(&mut workers).await;
        workers[index].kill();
        calls.push(call);
    }
    let answer = client.answer().await;
    assert_eq!(answer.error(), (500, None, None));
    assert_eq!(answer.head.header("x-should-retry"), Some("false"));
    let text = answer.json()["error"]["message"].to_string();
    assert!(
        text.contains(answer.head.header("x-request-id").unwrap()),
        "{text}"
    );
    assert!(!workers.iter_mut().any(ScriptedWorker::was_called));
    // The third worker takes the request when it is sent again.
    answered(router.chat(WHOLE).await, &mut workers).await;
    router.end().await;
}

#[tokio::test]
async fn a_worker_that_ends_in_order_accuses_nobody() {
    let (mut workers, router) = three_workers().await;
    for _ in 0..2 {
        let mut client = router.chat(STREAMED).await;
        let (call, index) = call_of(&mut workers).await;
        call.say(delta("Hel")).await;
        client.head().await;
        workers[index].becomes(|state| {
            state.phase = inferyard_proto::worker::v1::worker_state::Phase::Draining.into();
        });
        let draining = "inferyard_router_workers{model=\"m\",state=\"draining\"} 1\n";
        crate::support::eventually(async || router.scrape().await.contains(draining)).await;
        workers[index].kill();
        let body = client.rest().await;
        assert!(body.contains("error") && !body.contains(CODE), "{body}");
    }
    answered_stream(&router, &mut workers).await;
    router.end().await;
}

async fn answered_stream(router: &TestRouter, workers: &mut [ScriptedWorker]) {
    let mut client = router.chat(STREAMED).await;
    let (call, _) = call_of(workers).await;
    call.say_hello().await;
    assert_eq!(client.head().await.status, 200);
}
