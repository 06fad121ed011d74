//! Workers that fail before and after the first token.

use inferyard_proto::worker::v1::failed::Kind;

use crate::support::{
    Call, Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, admitted, delta, failed,
    finished,
};

/// The next call of either worker, and the index of that worker.
async fn call_of(workers: &mut [ScriptedWorker; 2]) -> (Call, usize) {
    let [one, two] = workers;
    tokio::select! {
        call = one.call() => (call, 0),
        call = two.call() => (call, 1),
    }
}

async fn two_workers() -> ([ScriptedWorker; 2], TestRouter) {
    let workers = [ScriptedWorker::start().await, ScriptedWorker::start().await];
    let router = TestRouter::start(&[&workers[0], &workers[1]]).await;
    (workers, router)
}

#[tokio::test]
async fn a_worker_without_room_leads_to_another() {
    for kind in [
        Kind::Overloaded,
        Kind::Draining,
        Kind::Loading,
        Kind::UnknownModel,
        Kind::Internal,
    ] {
        let (mut workers, router) = two_workers().await;
        let mut client = router.chat(WHOLE).await;
        let (call, first) = call_of(&mut workers).await;
        call.say(failed(kind, "for the log", "")).await;
        drop(call);
        workers[1 - first].call().await.say_hello().await;
        let answer = client.answer().await;
        assert_eq!(answer.head.status, 200, "{kind:?}");
        assert!(router.scrape().await.contains("retries_total{model=\"m\""));
        router.end().await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_before_the_first_token_is_replaced() {
    let (mut workers, router) = two_workers().await;
    let mut client = router.chat(STREAMED).await;
    let (call, first) = call_of(&mut workers).await;
    call.say(admitted(10, 0)).await;
    workers[first].kill();
    workers[1 - first].call().await.say_hello().await;
    assert_eq!(client.head().await.status, 200);
    let body = client.rest().await;
    assert!(
        body.contains("Hello") && body.ends_with("data: [DONE]\n\n"),
        "{body}"
    );
    router.end().await;
}

#[tokio::test]
async fn when_all_refuse_a_request_it_waits_until_one_has_spoken_again() {
    let (mut workers, router) = two_workers().await;
    let mut client = router.chat(WHOLE).await;
    for _ in 0..2 {
        let (call, _) = call_of(&mut workers).await;
        call.say(failed(Kind::Overloaded, "for the log", "")).await;
    }
    let (call, _) = call_of(&mut workers).await;
    call.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn when_all_refuse_a_request_that_may_not_wait_the_client_is_told_to_come_back() {
    let workers = [ScriptedWorker::start().await, ScriptedWorker::start().await];
    let (router, _bills) = TestRouter::planned(&[&workers[0], &workers[1]], |plan| {
        plan.queue.max_requests = 0;
    })
    .await;
    let mut workers = workers;
    let mut client = router.chat(WHOLE).await;
    for _ in 0..2 {
        let (call, _) = call_of(&mut workers).await;
        call.say(failed(Kind::Overloaded, "for the log", "")).await;
    }
    let answer = client.answer().await;
    let (status, code, _) = answer.error();
    assert_eq!(
        (status, code.as_deref()),
        (503, Some("server_is_overloaded"))
    );
    assert!(answer.head.header("retry-after").is_some());
    router.end().await;
}

#[tokio::test]
async fn a_request_that_no_worker_can_serve_is_not_tried_again() {
    let cases = [
        (
            Kind::InvalidRequest,
            "The schema is not supported.",
            "response_format",
            400,
            Some("invalid_value"),
        ),
        (
            Kind::ContextLengthExceeded,
            "9000 tokens",
            "messages",
            400,
            Some("context_length_exceeded"),
        ),
        (Kind::DeadlineExceeded, "for the log", "", 504, None),
    ];
    for (kind, message, param, status, code) in cases {
        let (mut workers, router) = two_workers().await;
        let mut client = router.chat(WHOLE).await;
        let (call, first) = call_of(&mut workers).await;
        call.say(failed(kind, message, param)).await;
        let answer = client.answer().await;
        let (got, got_code, got_param) = answer.error();
        assert_eq!(got, status, "{kind:?}");
        if status == 400 {
            assert_eq!(got_code.as_deref(), code);
            assert_eq!(got_param.as_deref(), Some(param));
            let text = answer.json()["error"]["message"].to_string();
            assert!(text.contains(message), "{text}");
        }
        assert!(!workers[1 - first].was_called());
        router.end().await;
    }
}

#[tokio::test]
async fn a_failure_after_the_first_token_is_said_in_the_stream() {
    let (mut workers, router) = two_workers().await;
    for die in [false, true] {
        let mut client = router.chat(STREAMED).await;
        let (call, first) = call_of(&mut workers).await;
        call.say(admitted(10, 0)).await;
        call.say(delta("Hel")).await;
        assert_eq!(client.head().await.status, 200);
        let mut body = client.piece().await.unwrap();
        if die {
            workers[first].kill();
        } else {
            call.say(failed(Kind::Internal, "SECRET", "")).await;
        }
        body.push_str(&client.rest().await);
        assert!(body.contains("data: {\"error\":{"), "{body}");
        assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
        assert!(!body.contains("SECRET"), "{body}");
        assert!(!workers[1 - first].was_called());
    }
    router.end().await;
}

#[tokio::test]
async fn a_stream_that_just_ends_is_a_failure_too() {
    let (mut workers, router) = two_workers().await;
    let mut client = router.chat(STREAMED).await;
    let (call, _) = call_of(&mut workers).await;
    call.say(delta("Hel")).await;
    drop(call);
    client.head().await;
    let body = client.rest().await;
    assert!(body.contains("data: {\"error\":{"), "{body}");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    router.end().await;
}

#[tokio::test]
async fn a_failure_after_the_first_token_of_a_whole_answer_is_a_500() {
    let (mut workers, router) = two_workers().await;
    let mut client = router.chat(WHOLE).await;
    let (call, _) = call_of(&mut workers).await;
    call.say(delta("Hel")).await;
    call.say(failed(Kind::Internal, "SECRET", "")).await;
    let answer = client.answer().await;
    assert_eq!(answer.error().0, 500);
    assert!(!answer.text().contains("SECRET"));
    router.end().await;
}

#[tokio::test]
async fn an_answer_without_a_token_is_an_answer() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(crate::support::choice_finished()).await;
    call.say(finished(10, 0, 0)).await;
    drop(call);
    assert_eq!(client.head().await.status, 200);
    assert!(client.rest().await.ends_with("data: [DONE]\n\n"));
    router.end().await;
}

#[tokio::test]
async fn sixty_four_streams_live_through_the_death_of_one_of_two_workers() {
    let (mut workers, router) = two_workers().await;
    let mut begun = Vec::new();
    let mut waiting = Vec::new();
    for index in 0..64 {
        let mut client = router.chat(STREAMED).await;
        let (call, worker) = call_of(&mut workers).await;
        if index % 4 < 2 {
            call.say(delta("Hel")).await;
            client.head().await;
            begun.push((client, call, worker));
        } else {
            waiting.push((client, call, worker));
        }
    }
    let on_first = |streams: &[(Connection, Call, usize)]| {
        streams.iter().filter(|(_, _, worker)| *worker == 0).count()
    };
    let (cut, moved) = (on_first(&begun), on_first(&waiting));
    assert!(cut > 0 && moved > 0, "{cut} {moved}");

    workers[0].kill();
    let survivor = &mut workers[1];
    for _ in 0..moved {
        survivor.call().await.say_hello().await;
    }
    let mut errors = 0;
    for (mut client, call, worker) in begun {
        if worker == 1 {
            call.say_hello().await;
        }
        let body = client.rest().await;
        assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
        errors += usize::from(body.contains("data: {\"error\":{"));
    }
    assert_eq!(errors, cut);
    for (mut client, call, worker) in waiting {
        if worker == 1 {
            call.say_hello().await;
        }
        assert_eq!(client.head().await.status, 200);
        let body = client.rest().await;
        assert!(body.contains("Hello"), "{body}");
        assert!(
            !body.contains("error") && body.ends_with("data: [DONE]\n\n"),
            "{body}"
        );
    }
    router.end().await;
}
