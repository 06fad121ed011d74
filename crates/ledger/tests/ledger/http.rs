//! A caller of the usage API.

use std::path::Path;

use inferyard_ledger::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// Sends a request, and returns the status and the body.
pub(crate) async fn get(
    address: &Address,
    method: &str,
    target: &str,
    key: Option<&str>,
) -> (u16, String) {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.unwrap();
            exchange(stream, method, target, key).await
        }
        Address::Unix(path) => unix(path, method, target, key).await,
    }
}

async fn unix(path: &Path, method: &str, target: &str, key: Option<&str>) -> (u16, String) {
    let stream = UnixStream::connect(path).await.unwrap();
    exchange(stream, method, target, key).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    target: &str,
    key: Option<&str>,
) -> (u16, String) {
    let key = key.map_or_else(String::new, |key| {
        format!("Authorization: Bearer {key}\r\n")
    });
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{key}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
