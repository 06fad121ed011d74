//! Heads that are not valid HTTP, or that implementations could interpret differently.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{TestRouter, WHOLE, catalog, eventually, within};

/// Status and body of each response until the connection ends.
async fn answers(router: &TestRouter, request: &[u8]) -> Vec<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(router.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    let text = String::from_utf8(bytes).unwrap();
    let mut rest = &*text;
    let mut answers = Vec::new();
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.lines().next().unwrap().parse().unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(
            head.contains("\r\ncontent-type: application/json"),
            "{head}"
        );
        assert!(head.contains("\r\nx-request-id: req_"), "{head}");
        answers.push((status, serde_json::from_str(&after[..length]).unwrap()));
        rest = &after[length..];
    }
    assert_eq!(rest, "");
    answers
}

/// Expects exactly one error, with all four keys.
async fn error(router: &TestRouter, request: &[u8]) -> (u16, String) {
    let mut answers = answers(router, request).await;
    let (status, body) = answers.pop().expect("an answer");
    assert_eq!(answers, [], "one answer");
    let error = body["error"].as_object().unwrap();
    for key in ["message", "type", "param", "code"] {
        assert!(error.contains_key(key), "{body}");
    }
    (status, error["message"].as_str().unwrap().to_owned())
}

fn chat(headers: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer My API Key\r\n{headers}\r\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_request_has_one_host() {
    let router = TestRouter::unready(catalog(vec![]), |_| ()).await;
    for hosts in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nhost: b\r\n",
        "host: a b\r\n",
        "host: a@b\r\n",
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n");
        let (status, message) = error(&router, request.as_bytes()).await;
        assert_eq!(status, 400, "{hosts}");
        assert!(message.contains("Host"), "{message}");
    }
    for request in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: [::1]:8080\r\nconnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: a.example:8080\r\nconnection: close\r\n\r\n",
        "GET http://a.example/healthz HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n",
    ] {
        let answers = answers(&router, request.as_bytes()).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, 200, "{request}");
    }
    router.end().await;
}

#[tokio::test]
async fn codings_that_are_not_undone_are_refused() {
    let router = TestRouter::unready(catalog(vec![]), |_| ()).await;
    let length = WHOLE.len();
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
    ] {
        let mut request = chat(&format!("host: x\r\n{codings}"));
        request.extend_from_slice(format!("{length:x}\r\n{WHOLE}\r\n0\r\n\r\n").as_bytes());
        // The bytes after this request on the connection are not read.
        request.extend_from_slice(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(error(&router, &request).await.0, 501, "{codings}");
    }
    router.end().await;
}

#[tokio::test]
async fn a_request_has_one_key() {
    let router = TestRouter::unready(catalog(vec![]), |_| ()).await;
    let request = chat("host: x\r\nauthorization: Bearer other\r\ncontent-length: 0\r\n");
    assert_eq!(error(&router, &request).await.0, 400);
    router.end().await;
}

#[tokio::test]
async fn what_is_no_request_gets_an_error_with_a_body() {
    let router = TestRouter::unready(catalog(vec![]), |_| ()).await;
    let large = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nlarge: {}\r\n\r\n",
        "x".repeat(600 << 10)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    let cases: [(&[u8], u16); 8] = [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
            400,
        ),
        (
            b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        (long.as_bytes(), 414),
        (many.as_bytes(), 431),
        (large.as_bytes(), 431),
    ];
    for (request, status) in cases {
        assert_eq!(error(&router, request).await.0, status);
    }
    // The response before it is unchanged.
    let both = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nhello\r\n\r\n";
    let statuses: Vec<u16> = answers(&router, both)
        .await
        .iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(statuses, [200, 400]);
    eventually(async || {
        let metrics = router.scrape().await;
        metrics
            .contains(r#"requests_total{route="bad_head",status="400",code="malformed_request"} 6"#)
    })
    .await;
    router.end().await;
}
