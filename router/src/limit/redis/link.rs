//! The connection: one per server, shared by all calls, made when needed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use inferyard_redis_link::{Address, Connection, Timeouts};
use redis::{RedisError, cmd};

use super::script::Script;

/// A connection takes more round trips than a call, and more still with TLS.
const CONNECT: Duration = Duration::from_secs(2);

/// The way to Redis.
pub(super) struct Link {
    address: Address,
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

// === impl Link ===

impl Link {
    pub(super) fn new(address: Address, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            live: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::new(()),
        }
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
        // Every call has a limit of its own.
        let timeouts = Timeouts {
            connect: CONNECT,
            response: None,
        };
        let mut connection = self.address.connect(timeouts).await?;
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

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
