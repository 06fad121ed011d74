//! The connection: one per server, shared by all calls, made when needed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, Value, cmd};

use super::script::Script;
use crate::limit::store::StoreError;

/// A connection takes more round trips than a call, and more still with TLS.
const CONNECT: Duration = Duration::from_secs(2);

/// The way to Redis.
pub(super) struct Link {
    client: Client,
    timeout: Duration,
    live: ArcSwapOption<Live>,
    /// Whoever has it connects.
    connecting: tokio::sync::Mutex<()>,
}

/// A connection, with the scripts that the server has.
pub(super) struct Live {
    pub(super) connection: Connection,
    hashes: [String; Script::ALL.len()],
}

/// To one server, or to the primaries of a cluster.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

// === impl Link ===

impl Link {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, StoreError> {
        let client = Client::open(url).map_err(|error| StoreError::Refused {
            message: format!("its URL cannot be read: {error}"),
        })?;
        Ok(Self {
            client,
            timeout,
            live: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::new(()),
        })
    }

    /// The connection. Only one call at a time tries to make it; the others wait as long as for an
    /// answer.
    pub(super) async fn live(&self) -> Result<Arc<Live>, RedisError> {
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        let turn = tokio::time::timeout(self.timeout, self.connecting.lock()).await;
        let _turn = turn.map_err(|_| timed_out())?;
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        let live = tokio::time::timeout(CONNECT, self.connect()).await;
        let live = Arc::new(live.map_err(|_| timed_out())??);
        self.live.store(Some(Arc::clone(&live)));
        Ok(live)
    }

    pub(super) fn drop_live(&self) {
        self.live.store(None);
    }

    /// Gives up a connection that an error shows to be of no more use.
    pub(super) fn failed(&self, error: &RedisError) {
        let of_no_use = error.is_unrecoverable_error() || error.is_io_error();
        // A primary that became a replica: the name may stand for the new primary by now.
        if of_no_use || error.code() == Some("READONLY") {
            self.drop_live();
        }
    }

    async fn connect(&self) -> Result<Live, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let single = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut single = single.await?;
        let info: String = cmd("INFO").arg("cluster").query_async(&mut single).await?;
        let mut connection = if info.contains("cluster_enabled:1") {
            let first = self.client.get_connection_info().clone();
            let cluster = ClusterClient::builder([first])
                .connection_timeout(CONNECT)
                .response_timeout(self.timeout)
                .retries(3)
                .build()?;
            Connection::Cluster(cluster.get_async_connection().await?)
        } else {
            Connection::Single(single)
        };
        let mut hashes = [const { String::new() }; Script::ALL.len()];
        for (hash, script) in hashes.iter_mut().zip(Script::ALL) {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(script.text());
            *hash = load.query_async(&mut connection).await?;
        }
        Ok(Live { connection, hashes })
    }
}

// === impl Live ===

impl Live {
    pub(super) fn hash(&self, script: Script) -> &str {
        &self.hashes[script as usize]
    }
}

// === impl Connection ===

impl Connection {
    pub(super) fn is_cluster(&self) -> bool {
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

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
