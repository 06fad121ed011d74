//! A connection to one Redis server, or to the primaries of a cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisFuture, RedisResult, Value};

use crate::Address;

/// Clones share it, and their commands are in flight together.
#[derive(Clone)]
pub enum Connection {
    /// One server.
    Single(MultiplexedConnection),
    /// The primaries of a cluster, each asked for the slots that it has.
    Cluster(ClusterConnection),
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to one server.
    pub connect: Duration,
    /// For an answer. None: the caller has a limit of its own; a node of a cluster is then given up
    /// after as long as a connection may take.
    pub response: Option<Duration>,
}

// === impl Address ===

impl Address {
    /// Connects, and finds out whether it is a cluster.
    pub async fn connect(&self, timeouts: Timeouts) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(timeouts.response);
        let single = self
            .0
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut single = single.await?;
        let info: String = redis::cmd("INFO")
            .arg("cluster")
            .query_async(&mut single)
            .await?;
        if !info.contains("cluster_enabled:1") {
            return Ok(Connection::Single(single));
        }
        let first = self.0.client.get_connection_info().clone();
        let mut cluster = ClusterClientBuilder::new([first])
            .connection_timeout(timeouts.connect)
            .response_timeout(timeouts.response.unwrap_or(timeouts.connect))
            .retries(3);
        if let Some(certificates) = &self.0.certificates {
            cluster = cluster.certs(certificates.clone());
        }
        Ok(Connection::Cluster(
            cluster.build()?.get_async_connection().await?,
        ))
    }
}

// === impl Connection ===

impl Connection {
    /// No command there can wait on all nodes, and none can name keys of two slots.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
