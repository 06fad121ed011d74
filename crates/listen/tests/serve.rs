//! A small port from outside: what it grants, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use inferyard_listen::{Bounds, Listen, Listener, Socket, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_mins(5);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}

async fn answer(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("here"))
}

fn bounds() -> Bounds {
    Bounds {
        connections: 4,
        per_client: 2,
        first_head: Duration::from_millis(100),
        ..Bounds::of_probes()
    }
}

async fn port(bounds: Bounds) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let socket = Socket::Tcp(listener);
    let serving = tokio::spawn(serve(socket, bounds, stop.clone(), PATIENCE, answer));
    (address, stop, serving)
}

async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    // A reset is an end, too.
    let _ = within(stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn silent_connections_are_closed_and_others_are_answered() {
    let (address, stop, serving) = port(bounds()).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // The share of this address is taken, that of another one is not.
    let other = TcpSocket::new_v4().unwrap();
    other.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut other = other.connect(address).await.unwrap();
    other.write_all(REQUEST).await.unwrap();
    assert!(rest(&mut other).await.ends_with("here"));
    for mut stream in silent {
        assert_eq!(rest(&mut stream).await, "");
    }
    let mut again = TcpStream::connect(address).await.unwrap();
    again.write_all(REQUEST).await.unwrap();
    assert!(rest(&mut again).await.ends_with("here"));
    stop.cancel();
    within(serving).await.unwrap();
}

#[tokio::test]
async fn the_end_closes_idle_connections_and_the_port() {
    let (address, stop, serving) = port(bounds()).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert_ne!(within(idle.read(&mut [0; 1024])).await.unwrap(), 0);
    stop.cancel();
    within(serving).await.unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_is_served_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    let stop = CancellationToken::new();
    let socket = listener.into_socket();
    let serving = tokio::spawn(serve(socket, bounds(), stop.clone(), PATIENCE, answer));
    // More than the share of one client: processes of this machine are not counted.
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(UnixStream::connect(&path).await.unwrap());
    }
    for mut stream in open {
        stream.write_all(REQUEST).await.unwrap();
        assert!(rest(&mut stream).await.ends_with("here"));
    }
    stop.cancel();
    within(serving).await.unwrap();
    assert!(!path.exists());
}
