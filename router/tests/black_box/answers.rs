//! Successful requests.

use inferyard_proto::worker::v1::generate_request::Prompt;

use crate::support::{
    STREAMED, ScriptedWorker, TestRouter, WHOLE, admitted, choice_finished, delta, finished,
    request, within,
};

#[tokio::test]
async fn tokens_arrive_one_by_one_and_the_stream_ends_with_done() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(
        head.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(head.header("cache-control"), Some("no-cache"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    // The worker has not sent the second token yet when the first one arrives.
    let first = client.piece().await.unwrap();
    assert!(first.contains(r#""content":"Hello""#), "{first}");
    call.say(delta(" world")).await;
    let second = client.piece().await.unwrap();
    assert!(second.contains(r#""content":" world""#), "{second}");
    call.say(choice_finished()).await;
    call.say(finished(10, 0, 2)).await;
    drop(call);
    let rest = client.rest().await;
    assert!(rest.contains(r#""finish_reason":"stop""#), "{rest}");
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    router.end().await;
}

#[tokio::test]
async fn a_whole_answer_is_one_json_object() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["choices"][0]["message"]["content"], "Hello world");
    assert_eq!(body["usage"]["prompt_tokens"], 10);
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    assert_eq!(body["usage"]["completion_tokens"], 2);
    router.end().await;
}

#[tokio::test]
async fn the_worker_gets_what_the_contract_promises() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let text = "x".repeat(5000);
    let messages = format!(r#"[ {{"role": "user", "content": "{text}"}} ]"#);
    let mut client = router
        .chat(&format!(r#"{{"messages":{messages},"model":"alias"}}"#))
        .await;
    let call = worker.call().await;
    let sent = call.request.clone();
    call.say_hello().await;
    let answer = client.answer().await;
    assert_eq!(answer.json()["model"], "alias");
    assert_eq!(
        answer.head.header("x-request-id"),
        Some(sent.request_id.as_str())
    );
    assert!(sent.request_id.starts_with("req_"));
    assert_eq!(sent.model, "m");
    assert_eq!(sent.priority, 7);
    let deadline = sent.deadline_ms.unwrap();
    assert!((500_000..=600_000).contains(&deadline), "{deadline}");
    let Some(Prompt::Chat(chat)) = sent.prompt else {
        panic!("a chat is a chat");
    };
    // The client's own bytes, including spaces.
    assert_eq!(chat.messages_json, messages);
    assert_eq!(sent.prefix_blocks.len(), messages.len() / 1024);
    assert!(!sent.cache_salt.is_empty());
    router.end().await;
}

#[tokio::test]
async fn legacy_completions_are_served() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.connect().await;
    let body = r#"{"model":"m","prompt":"Say hello."}"#;
    client.send(&request("POST", "/v1/completions", body)).await;
    let call = worker.call().await;
    assert!(matches!(call.request.prompt, Some(Prompt::Text(_))));
    call.say_hello().await;
    let body = client.answer().await.json();
    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["choices"][0]["text"], "Hello world");
    router.end().await;
}

#[tokio::test]
async fn one_connection_carries_one_request_after_another() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(STREAMED).await;
    worker.call().await.say_hello().await;
    client.head().await;
    let streamed = client.rest().await;
    assert!(streamed.ends_with("data: [DONE]\n\n"));
    client
        .send(&request("POST", "/v1/chat/completions", WHOLE))
        .await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn workers_are_reached_over_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = ScriptedWorker::start_unix(&folder.path().join("worker 0.sock"));
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn a_body_of_single_byte_chunks_is_a_body() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.connect().await;
    let head = request("POST", "/v1/chat/completions", "");
    let head = String::from_utf8(head).unwrap();
    let head = head.replace("content-length: 0", "transfer-encoding: chunked");
    client.send(head.as_bytes()).await;
    for byte in WHOLE.bytes() {
        client
            .send(&[b"1\r\n", &[byte][..], b"\r\n"].concat())
            .await;
    }
    client.send(b"0\r\n\r\n").await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn idle_workers_take_turns_and_a_held_prefix_attracts() {
    let mut one = ScriptedWorker::start().await;
    let mut two = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&one, &two]).await;
    let prompt = |text: &str| {
        let text = text.repeat(50_000);
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
    };
    let body = prompt("x");

    // Two concurrent requests: the second goes to the other worker.
    let mut first = router.chat(&prompt("y")).await;
    let mut second = router.chat(&body).await;
    let (first_call, second_call) = (one.call().await, two.call().await);
    let chains = [&first_call, &second_call].map(|call| call.request.prefix_blocks.clone());
    assert_ne!(chains[0], chains[1]);
    assert!(chains.iter().all(|chain| chain.len() == 48));
    // The prompt is already being computed on the second request's worker, so an equal prompt goes there too.
    let mut third = router.chat(&body).await;
    let (third_call, holder) = tokio::select! {
        call = one.call() => (call, 0),
        call = two.call() => (call, 1),
    };
    let blocks = third_call.request.prefix_blocks.clone();
    assert_eq!(blocks, chains[holder]);
    third_call.say_hello().await;
    third.answer().await;
    first_call.say_hello().await;
    second_call.say_hello().await;
    first.answer().await;
    second.answer().await;

    // The second worker reports that it has the prompt cached, so it gets the request despite its queue.
    two.becomes(|state| {
        state.prefixes = Some(inferyard_proto::worker::v1::PrefixChange {
            reset: true,
            added: blocks,
            removed: vec![],
        });
        state.queued_prefill_tokens = 5000;
    });
    within(async {
        loop {
            let mut client = router.chat(&body).await;
            let call = tokio::select! {
                call = one.call() => (call, false),
                call = two.call() => (call, true),
            };
            call.0.say_hello().await;
            client.answer().await;
            // Until the report has arrived, either worker may be chosen.
            let metrics = router.scrape().await;
            if metrics.contains(r#"placements_total{model="m",prefix="held"} 2"#) {
                assert!(call.1, "the holder should have been chosen");
                break;
            }
        }
    })
    .await;
    router.end().await;
}
