//! Traces reach a collector, those of the last moment too.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so does what only tests call"
)]

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::service_fn;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml");

/// Listens as a collector and passes on what it is sent.
async fn collector() -> (String, mpsc::UnboundedReceiver<Bytes>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Body>| {
        let sender = sender.clone();
        async move {
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            sender.send(sent).unwrap();
            // An empty message and its trailers: all is accepted.
            let accepted = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async {
                let status = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
                Some(Ok(HeaderMap::from_iter([status])))
            });
            let response = Response::builder().header("content-type", "application/grpc");
            Ok::<_, Infallible>(response.body(Body::new(accepted)).unwrap())
        }
    });
    tokio::spawn(Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));
    (url, received)
}

/// The batch of spans is sent every few seconds; the end must not lose the last one, and must not
/// hang on it either, although the router has one thread only.
#[tokio::test]
async fn the_spans_of_the_last_request_are_sent_at_the_end() {
    let (url, mut received) = collector().await;
    let mut router = Command::new(env!("CARGO_BIN_EXE_inferyard"))
        .args([
            "router",
            "-f",
            QUICKSTART,
            "--listen",
            "127.0.0.1:0",
            "--otlp-endpoint",
            &url,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&router);
    let stdout = router.stdout.take().unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("listening on http://");
        let mut stream = TcpStream::connect(address.trim_end_matches("/v1")).unwrap();
        stream
            .write_all(b"GET /v1/models HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        kill_process(pid, Signal::TERM).unwrap();
        router.wait().unwrap()
    });
    assert_eq!(asked.await.unwrap().code(), Some(0));
    let sent = received
        .try_recv()
        .expect("spans should be there before the end");
    let sent = String::from_utf8_lossy(&sent);
    for text in ["inferyard-router", "/v1/models", "http.request.method"] {
        assert!(sent.contains(text), "{text} is not in {sent}");
    }
}
