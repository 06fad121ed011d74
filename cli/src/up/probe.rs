//! Polls the readiness of a router over HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Pause between two polls; the router learns of a ready worker within milliseconds.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns once `/readyz` answers 200.
pub(super) async fn until_ready(address: SocketAddr) {
    while !is_ready(address).await.is_ok_and(|ready| ready) {
        sleep(PAUSE).await;
    }
}

async fn is_ready(address: SocketAddr) -> anyhow::Result<bool> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let exchange = async { Ok(sender.send_request(request).await?.status() == StatusCode::OK) };
    tokio::select! {
        ready = exchange => ready,
        end = connection => {
            end?;
            Ok(false)
        }
    }
}

/// The address that this machine reaches a listener at: one on all addresses is reached on the loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_reached_on_the_loopback() {
        let table = [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ];
        for (listen, reached) in table {
            assert_eq!(reachable(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
