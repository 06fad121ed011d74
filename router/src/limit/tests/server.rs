//! A redis-server for one test.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use ::redis::aio::MultiplexedConnection;
use ::redis::streams::StreamRangeReply;
use inferyard_proto::outbox;
use inferyard_redis_link::{Client, Timeouts};
use inferyard_test_ports::Port;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A Redis of this test alone, which writes every change to disk before it answers.
pub(super) struct Server {
    folder: tempfile::TempDir,
    port: Port,
    process: Child,
}

impl Server {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::take();
        let process = run(folder.path(), port.number());
        Self {
            folder,
            port,
            process,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port.number())
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(super) fn start_again(&mut self) {
        self.process = run(self.folder.path(), self.port.number());
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
    }

    pub(super) fn client(&self) -> Client {
        let timeouts = Timeouts {
            connect: BOUND,
            response: None,
        };
        Client::new(self.url().parse().unwrap(), timeouts)
    }

    pub(super) async fn connection(&self) -> MultiplexedConnection {
        let client = ::redis::Client::open(self.url()).unwrap();
        // The library's own limits are a second and half a second, which a busy machine exceeds.
        let config = ::redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_mins(5)))
            .set_response_timeout(Some(Duration::from_mins(5)));
        let connect = client.get_multiplexed_async_connection_with_config(&config);
        connect.await.unwrap()
    }

    /// All events, by request and part, from all outboxes.
    pub(super) async fn events(&self) -> Vec<(UsageEvent, u32)> {
        let mut connection = self.connection().await;
        let mut events = Vec::new();
        for bucket in 0..outbox::BUCKETS {
            let mut range = ::redis::cmd("XRANGE");
            range.arg(outbox::stream(bucket)).arg("-").arg("+");
            let reply: StreamRangeReply = range.query_async(&mut connection).await.unwrap();
            for entry in reply.ids {
                let event: Vec<u8> = entry.get(outbox::EVENT).unwrap();
                let part = entry.get(outbox::PART).unwrap_or(0);
                events.push((UsageEvent::decode(&*event).unwrap(), part));
            }
        }
        events
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(folder: &Path, port: u16) -> Child {
    let process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server should be installed");
    let begun = std::time::Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < BOUND, "redis-server should listen");
        std::thread::yield_now();
    }
    process
}
