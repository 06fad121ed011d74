//! The ledger behind the router, played by the test.

use inferyard_catalog::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::support::{TestRouter, catalog, request, within};

/// Reads one request until `last`, and answers it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    last: &str,
    answer: &str,
) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(last.as_bytes()) {
        within(stream.read_buf(&mut seen)).await.unwrap();
    }
    within(stream.write_all(answer.as_bytes())).await.unwrap();
    String::from_utf8(seen).unwrap()
}

async fn router(ledger: Option<Endpoint>) -> TestRouter {
    TestRouter::unready(catalog(vec![]), |config| config.ledger = ledger).await
}

const USAGE: &str = "/v1/organization/usage/completions?start_time=1&group_by[]=model";

#[tokio::test]
async fn requests_go_on_to_the_ledger_and_its_answers_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = router(Some(Endpoint::Tcp(address.into()))).await;
    let answer = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nx-own: 1\r\n\
                  transfer-encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
    let ledger = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, "\r\n\r\n", answer).await
    };
    let (seen, answer) = tokio::join!(ledger, router.ask("GET", USAGE, ""));
    let seen = seen.to_ascii_lowercase();
    assert!(
        seen.starts_with(&format!("get {USAGE} http/1.1\r\n")),
        "{seen}"
    );
    assert!(
        seen.contains("authorization: bearer my api key\r\n"),
        "{seen}"
    );
    assert_eq!(answer.head.status, 403);
    assert_eq!(answer.head.header("x-own"), Some("1"));
    assert!(answer.head.header("x-request-id").is_some());
    assert_eq!(answer.text(), "{\"a\":1}");
    router.end().await;
}

#[tokio::test]
async fn bodies_go_on_too_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let router = router(Some(Endpoint::Unix(path))).await;
    let ledger = async {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        serve(stream, "{\"name\":\"x\"}", answer).await
    };
    let path = "/v1/organization/api_keys";
    let (seen, answer) = tokio::join!(ledger, router.ask("POST", path, "{\"name\":\"x\"}"));
    assert!(
        seen.starts_with("POST /v1/organization/api_keys HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(
        seen.contains("content-type: application/json\r\n"),
        "{seen}"
    );
    assert_eq!((answer.head.status, answer.text()), (200, "{}".to_owned()));
    router.end().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = router(Some(Endpoint::Tcp(address.into()))).await;
    let mut client = router.connect().await;
    client.send(&request("GET", USAGE, "")).await;
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let half = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    serve(&mut stream, "\r\n\r\n", half).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.piece().await.as_deref(), Some("abc"));
    drop(stream);
    // Not even the chunk that ends a body was sent.
    assert!(client.is_at_end().await);
    router.end().await;
}

#[tokio::test]
async fn without_a_ledger_it_says_how_to_get_one() {
    let alone = router(None).await;
    let answer = alone.ask("GET", USAGE, "").await;
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_deref()), (404, Some("no_ledger")));
    assert!(answer.text().contains("--ledger"));
    alone.end().await;

    let folder = tempfile::tempdir().unwrap();
    let nobody = Endpoint::Unix(folder.path().join("nobody.sock"));
    let router = router(Some(nobody)).await;
    let answer = router.ask("GET", USAGE, "").await;
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_deref()), (503, Some("ledger_unavailable")));
    assert!(answer.head.header("retry-after").is_some());
    let large = router.ask("POST", USAGE, &" ".repeat((1 << 20) + 1)).await;
    assert_eq!(large.head.status, 413);
    router.end().await;
}
