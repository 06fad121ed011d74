//! Socket options of a client's connection.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Keep-alive probes: a peer that vanished is noticed within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// Send buffer of the kernel, in bytes: its default for a client that does not read is megabytes.
const MOST_UNSENT: u32 = 128 << 10;

/// Sets the options of an accepted socket.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    // With Nagle's algorithm every token would wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
    Ok(())
}
