//! Clients that hold a connection without using it neither lock out others nor keep what their request
//! reserved.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, catalog, eventually, request, within,
};

const CHAT: &str = "/v1/chat/completions";
/// Far longer than any test runs.
const LONG: Duration = Duration::from_hours(1);

/// Connects from this loopback address, with a small receive buffer.
async fn connect_from(source: [u8; 4], router: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(router).await
}

async fn connect(router: &TestRouter) -> TcpStream {
    connect_from([127, 0, 0, 1], router.address).await.unwrap()
}

/// A request for a stream, without reading the answer.
async fn unread(router: &TestRouter) -> TcpStream {
    let mut stream = connect(router).await;
    stream
        .write_all(&request("POST", CHAT, STREAMED))
        .await
        .unwrap();
    stream
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // A reset connection has no more bytes either.
    let _ = within(stream.read_to_end(&mut rest)).await;
    String::from_utf8_lossy(&rest).into_owned()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(within(stream.read(&mut [0; 64])).await, Ok(0) | Err(_))
}

/// Waits until the metrics contain all of these lines.
async fn shows(router: &TestRouter, lines: &[&str]) {
    eventually(async || {
        let metrics = router.scrape().await;
        let mut lines = lines.iter();
        lines.all(|line| metrics.contains(&format!("inferyard_router_{line}\n")))
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_everything_back_at_the_deadline() {
    let mut worker = ScriptedWorker::start().await;
    let (router, mut bills) = TestRouter::planned_and_configured(
        &[&worker],
        |plan| plan.limits.concurrent_requests = NonZeroU64::new(1),
        |config| {
            config.request_timeout = Duration::from_millis(500);
            config.write_timeout = LONG;
        },
    )
    .await;
    let mut stalled = unread(&router).await;
    let pump = tokio::spawn(worker.call().await.pump(usize::MAX));
    // The worker is cancelled although the client reads nothing.
    within(pump).await.unwrap();
    shows(
        &router,
        &["requests_in_flight 0", "worker_requests{model=\"m\"} 0"],
    )
    .await;
    bills.next().await;
    // The plan's single concurrent request is free again. On a busy machine the deadline may also be over.
    let other = router.ask("POST", CHAT, WHOLE);
    let answering = async {
        loop {
            worker.call().await.say_hello().await;
        }
    };
    let status = tokio::select! {
        answer = other => answer.head.status,
        () = answering => unreachable!("it answers until it is dropped"),
    };
    assert_ne!(status, 429);
    // A client that starts to read gets the end of its stream.
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n") {
        let read = within(stalled.read(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "the stream has ended without its end: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        if text.len() > 1 << 20 {
            text.drain(..1 << 19);
        }
    }
    assert!(text.contains("deadline_exceeded"), "{text}");
    router.end().await;
}

#[tokio::test]
async fn a_connection_whose_client_takes_nothing_is_closed() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::configured(&[&worker], |config| {
        config.write_timeout = Duration::from_millis(200);
    })
    .await;
    let mut stalled = unread(&router).await;
    let pump = tokio::spawn(worker.call().await.pump(usize::MAX));
    within(pump).await.unwrap();
    shows(
        &router,
        &[
            "requests_in_flight 0",
            "worker_requests{model=\"m\"} 0",
            "connections 0",
            "connections_stalled_total 1",
        ],
    )
    .await;
    assert!(!rest(&mut stalled).await.contains("[DONE]"));
    router.end().await;
}

#[tokio::test]
async fn requests_without_a_key_whose_answers_nobody_reads_hold_no_connection() {
    let router = TestRouter::unready(catalog(vec![]), |config| {
        config.write_timeout = Duration::from_millis(200);
    })
    .await;
    let mut stream = connect(&router).await;
    let requests = "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n".repeat(4_000);
    // The router stops reading when its own buffers are full, and then closes the connection.
    let written = within(stream.write_all(requests.as_bytes())).await;
    shows(&router, &["connections 0", "connections_stalled_total 1"]).await;
    drop(written);
    router.end().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let router = TestRouter::unready(catalog(vec![]), |config| config.max_connections = 8).await;
    let mut own = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&router).await;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert_ne!(within(stream.read(&mut [0; 1024])).await.unwrap(), 0);
        own.push(stream);
    }
    for _ in 0..20 {
        assert!(is_closed(&mut connect(&router).await).await);
    }
    let mut other = connect_from([127, 0, 0, 2], router.address).await.unwrap();
    let close = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    other.write_all(close).await.unwrap();
    assert!(rest(&mut other).await.starts_with("HTTP/1.1 200 "));
    shows(
        &router,
        &["connections 2", "connections_over_share_total 20"],
    )
    .await;

    // The share is free again as soon as the connection is closed.
    drop(own.pop());
    shows(&router, &["connections 1"]).await;
    assert_eq!(router.ask("GET", "/healthz", "").await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn connections_of_a_trusted_proxy_are_not_counted_per_address() {
    let router = TestRouter::unready(catalog(vec![]), |config| {
        config.max_connections = 8;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..7 {
        let mut connection = Connection::open(router.address).await;
        connection.send(&request("GET", "/healthz", "")).await;
        assert_eq!(connection.answer().await.head.status, 200);
        open.push(connection);
    }
    router.end().await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let router = TestRouter::unready(catalog(vec![]), |config| {
        config.first_request_timeout = Duration::from_millis(100);
    })
    .await;
    for text in ["", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = connect(&router).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        assert!(is_closed(&mut stream).await, "{text}");
    }
    shows(
        &router,
        &["connections 0", "connections_without_request_total 2"],
    )
    .await;
    // A connection that has sent a request stays open.
    let mut connection = Connection::open(router.address).await;
    connection.send(&request("GET", "/healthz", "")).await;
    assert_eq!(connection.answer().await.head.status, 200);
    let mut silent = connect(&router).await;
    assert!(is_closed(&mut silent).await);
    connection.send(&request("GET", "/healthz", "")).await;
    assert_eq!(connection.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn a_router_without_a_free_connection_is_not_ready() {
    let router = TestRouter::unready(catalog(vec![]), |config| {
        config.max_connections = 1;
        config.first_request_timeout = LONG;
    })
    .await;
    let ready = async || router.probe("/readyz?router").await;
    eventually(async || ready().await.head.status == 200).await;
    let held = connect(&router).await;
    eventually(async || ready().await.head.status == 503).await;
    assert!(ready().await.text().contains("connections"));
    shows(&router, &["connections_full 1"]).await;
    drop(held);
    eventually(async || ready().await.head.status == 200).await;
    router.end().await;
}

#[tokio::test]
async fn draining_ends_a_stream_that_nobody_reads() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::configured(&[&worker], |config| {
        config.drain_timeout = Duration::from_millis(500);
        config.write_timeout = LONG;
    })
    .await;
    let mut stalled = unread(&router).await;
    let call = worker.call().await;
    let pump = tokio::spawn(call.pump(usize::MAX));
    router.shutdown.cancel();
    within(pump).await.unwrap();
    let text = rest(&mut stalled).await;
    assert!(text.contains("data: {\"error\":{"), "no error frame");
    assert!(text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "no end");
    within(router.run).await.unwrap().unwrap();
}
