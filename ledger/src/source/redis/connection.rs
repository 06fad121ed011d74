//! A connection to one Redis server or to a cluster.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisResult, Value};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Well above the time that a read waits for entries.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// The URL of the outbox is not one.
#[derive(Debug, thiserror::Error)]
#[error("the URL of Redis cannot be read: expected redis://USER:PASSWORD@HOST:PORT or rediss://…")]
pub struct UrlError(#[source] RedisError);

/// Where Redis is.
pub(super) struct Target {
    url: String,
    client: Client,
}

/// Commands in flight share it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

// === impl Target ===

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let client = Client::open(url).map_err(UrlError)?;
        Ok(Self {
            url: url.to_owned(),
            client,
        })
    }

    /// Connects, and finds out whether it is a cluster.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut single = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info: String = redis::cmd("INFO")
            .arg("cluster")
            .query_async(&mut single)
            .await?;
        if !info.contains("cluster_enabled:1") {
            return Ok(Connection::Single(single));
        }
        let cluster = ClusterClientBuilder::new([self.url.as_str()])
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .build()?
            .get_async_connection()
            .await?;
        Ok(Connection::Cluster(cluster))
    }
}

// === impl Connection ===

impl Connection {
    /// No command waits for entries on all nodes of a cluster.
    pub(super) fn must_be_polled(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    pub(super) async fn ask(mut self, command: Cmd) -> RedisResult<Value> {
        match &mut self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    pub(super) async fn tell(mut self, commands: Pipeline) -> RedisResult<()> {
        match &mut self {
            Self::Single(connection) => commands.exec_async(connection).await,
            Self::Cluster(connection) => commands.exec_async(connection).await,
        }
    }
}
