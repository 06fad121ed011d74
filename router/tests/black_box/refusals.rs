//! Refused requests and their errors.

use std::time::Duration;

use inferyard_proto::worker::v1::worker_state::Phase;

use crate::support::{
    DISABLED_KEY, EXPIRED_KEY, NARROW_KEY, ScriptedWorker, TestRouter, WHOLE, catalog, eventually,
    request, two_models,
};

const CHAT: &str = "/v1/chat/completions";

fn with_header(name: &str, value: &str) -> Vec<u8> {
    let text = String::from_utf8(request("POST", CHAT, WHOLE)).unwrap();
    let lines = text.split("\r\n");
    let lines: Vec<String> = lines
        .map(|line| match line.split_once(": ") {
            Some((other, _)) if other == name => format!("{name}: {value}"),
            _ => line.to_owned(),
        })
        .collect();
    lines.join("\r\n").into_bytes()
}

fn with_body(body: &[u8]) -> Vec<u8> {
    let head = request("POST", CHAT, "");
    let head = String::from_utf8(head).unwrap();
    let length = format!("content-length: {}", body.len());
    let mut bytes = head.replace("content-length: 0", &length).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A name, a request, and the expected status, code and param; `-` accepts any.
type Case = (&'static str, Vec<u8>, &'static str);

fn bad_heads() -> Vec<Case> {
    let key = |key: &str| with_header("authorization", &format!("Bearer {key}"));
    let basic = with_header("authorization", "Basic eDp5");
    let text = with_header("content-type", "text/plain");
    let zipped = String::from_utf8(request("POST", CHAT, WHOLE)).unwrap();
    let zipped = zipped.replace("host: x", "host: x\r\ncontent-encoding: gzip");
    vec![
        ("no key", with_header("authorization", ""), "401 null null"),
        ("no bearer key", basic, "401 null null"),
        ("wrong key", key("nobody"), "401 invalid_api_key null"),
        ("disabled", key(DISABLED_KEY), "401 invalid_api_key null"),
        ("expired", key(EXPIRED_KEY), "401 invalid_api_key null"),
        ("other plan", key(NARROW_KEY), "400 model_not_found model"),
        (
            "unknown path",
            request("POST", "/chat", WHOLE),
            "404 - null",
        ),
        ("wrong method", request("GET", CHAT, ""), "405 - null"),
        ("not JSON by type", text, "415 - null"),
        ("compressed", zipped.into_bytes(), "415 - null"),
    ]
}

fn bad_bodies() -> Vec<Case> {
    let changed = |old: &str, new: &str| with_body(WHOLE.replace(old, new).as_bytes());
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let mut cut_character = WHOLE.replace("hello", "h\u{e9}llo").into_bytes();
    cut_character.retain(|byte| *byte != 0xa9);
    let negative = changed("}]", "}],\"max_tokens\":-1");
    vec![
        ("5 MB", with_body(&vec![b' '; 5 << 20]), "413 - null"),
        ("no JSON", with_body(b"hello"), "400 - null"),
        ("empty", with_body(b""), "400 - null"),
        ("NUL bytes", with_body(&[0; 100]), "400 - null"),
        ("not UTF-8", with_body(&cut_character), "400 - -"),
        ("deep", changed("\"Say hello.\"", &nested), "400 - -"),
        (
            "no such model",
            changed("\"m\"", "\"x\""),
            "400 model_not_found model",
        ),
        (
            "wrong type",
            changed("\"m\"", "7"),
            "400 invalid_type model",
        ),
        (
            "below zero",
            negative,
            "400 integer_below_min_value max_tokens",
        ),
        (
            "no messages",
            with_body(br#"{"model":"m","messages":[]}"#),
            "400 empty_array messages",
        ),
    ]
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong_and_the_next_one_is_served() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    for (name, bytes, expected) in [bad_heads(), bad_bodies()].concat() {
        let mut client = router.connect().await;
        client.send(&bytes).await;
        let answer = client.answer().await;
        let (status, code, param) = answer.error();
        let got = [Some(status.to_string()), code, param];
        for (got, expected) in got.iter().zip(expected.split(' ')) {
            let got = got.as_deref().unwrap_or("null");
            assert!(
                expected == "-" || got == expected,
                "{name}: {}",
                answer.json()
            );
        }
        assert!(
            answer
                .head
                .header("x-request-id")
                .unwrap()
                .starts_with("req_")
        );
        assert_eq!(answer.head.header("content-type"), Some("application/json"));
    }
    assert!(!worker.was_called());
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn what_is_not_http_closes_the_connection() {
    let worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20));
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\0\0\0\r\n\r\n",
        long.as_bytes(),
    ] {
        let mut client = router.connect().await;
        client.send(bytes).await;
        if let Some(head) = client.try_head().await {
            assert!((400..500).contains(&head.status));
        }
    }
    assert_eq!(router.ask("GET", "/healthz", "").await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn the_right_methods_are_named() {
    let worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let answer = router.ask("DELETE", CHAT, "").await;
    assert_eq!(answer.head.header("allow"), Some("POST, OPTIONS"));
    router.end().await;
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_send_what_is_too_large() {
    let worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.connect().await;
    let head = with_header("content-length", "50000000");
    let head = String::from_utf8(head).unwrap();
    let head = head.split("\r\n\r\n").next().unwrap();
    client
        .send(format!("{head}\r\nexpect: 100-continue\r\n\r\n").as_bytes())
        .await;
    assert_eq!(client.answer().await.error().0, 413);
    router.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let worker = ScriptedWorker::start().await;
    let quick = Duration::from_millis(50);
    let router = TestRouter::configured(&[&worker], |config| config.body_timeout = quick).await;
    let mut client = router.connect().await;
    client.send(&with_header("content-length", "1000")).await;
    assert_eq!(client.answer().await.error().0, 408);
    router.end().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let worker = ScriptedWorker::start().await;
    let quick = Duration::from_millis(50);
    let router = TestRouter::configured(&[&worker], |config| config.header_timeout = quick).await;
    let mut client = router.connect().await;
    client
        .send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ")
        .await;
    assert!(client.is_at_end().await);
    router.end().await;
}

#[tokio::test]
async fn without_a_ready_worker_the_client_is_told_to_come_back() {
    let mut worker = ScriptedWorker::start().await;
    worker.becomes(|state| {
        state.phase = Phase::Loading.into();
        state.load_progress = 0.25;
    });
    let endpoints = vec![worker.endpoint.clone()];
    let router = TestRouter::unready(catalog(endpoints), |_| ()).await;
    eventually(async || router.scrape().await.contains("state=\"loading\"} 1")).await;
    let answer = router.ask("POST", CHAT, WHOLE).await;
    assert_eq!(answer.error().0, 503);
    assert!(answer.head.header("retry-after").is_some());
    let answer = router.probe("/readyz").await;
    assert_eq!(answer.head.status, 503);
    let missing = &answer.json()["missing"][0];
    assert_eq!(missing["model"], "m");
    assert_eq!(missing["workers"][0]["state"], "loading");
    assert_eq!(missing["workers"][0]["progress"], 0.25);

    worker.becomes(|state| state.phase = Phase::Ready.into());
    eventually(async || router.ask("GET", "/readyz", "").await.head.status == 200).await;
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);

    // The worker dies, and no requests are placed on it any more.
    worker.kill();
    eventually(async || router.ask("GET", "/readyz", "").await.head.status == 503).await;
    assert_eq!(router.ask("POST", CHAT, WHOLE).await.error().0, 503);
    router.end().await;
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_not_placed_on() {
    let worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    worker.falls_silent();
    eventually(async || router.scrape().await.contains("state=\"unreachable\"} 1")).await;
    assert_eq!(router.ask("POST", CHAT, WHOLE).await.error().0, 503);
    router.end().await;
}

#[tokio::test]
async fn a_new_catalog_replaces_models_and_keys() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut streaming = router.chat(crate::support::STREAMED).await;
    let call = worker.call().await;
    call.say(crate::support::delta("Hello")).await;
    streaming.head().await;

    let mut next = two_models(vec![]);
    next.models.remove("m");
    router.catalog.send(next.into()).unwrap();
    let unknown = Some("model_not_found".to_owned());
    eventually(async || router.ask("POST", CHAT, WHOLE).await.error().1 == unknown).await;
    // An answer of a removed worker continues.
    call.say_hello().await;
    assert!(streaming.rest().await.ends_with("data: [DONE]\n\n"));

    router
        .catalog
        .send(two_models(vec![worker.endpoint.clone()]).into())
        .unwrap();
    eventually(async || router.ask("GET", "/readyz?any", "").await.head.status == 200).await;
    assert_eq!(router.ask("GET", "/readyz", "").await.head.status, 503);
    router
        .catalog
        .send(inferyard_catalog::Catalog::default().into())
        .unwrap();
    eventually(async || router.ask("POST", CHAT, WHOLE).await.head.status == 401).await;
    router.end().await;
}
