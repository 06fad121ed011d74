//! A redis-server for one test.

use ::redis::aio::MultiplexedConnection;
use ::redis::streams::StreamRangeReply;
use inferyard_proto::outbox;
use inferyard_redis_link::{Client, Timeouts};
use inferyard_test_servers::Redis;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A Redis for one test, which writes every change to disk before it answers.
pub(super) struct Server(Redis);

impl Server {
    pub(super) fn start() -> Self {
        Self(Redis::durable())
    }

    pub(super) fn url(&self) -> String {
        self.0.url()
    }

    pub(super) fn kill(&mut self) {
        self.0.kill();
    }

    pub(super) fn start_again(&mut self) {
        self.0.restart();
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.process()), signal).unwrap();
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
        // The library's own timeouts are a second and half a second, which a busy machine exceeds.
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
