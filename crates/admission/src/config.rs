//! Settings of the limits.

use inferyard_redis_link::Address;
use std::path::PathBuf;
use std::time::Duration;

use inferyard_proto::outbox::Entry;
use tokio::sync::mpsc;

/// Where and how limits are counted.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Where the levels are stored.
    pub store: LimitStore,
    /// How long the reservations of a router that died stay held.
    pub lease_time: Duration,
    /// How many routers share the limits while Redis cannot be reached.
    pub routers: Routers,
}

/// How many routers share the limits, as far as it is configured. Without either number, a router that has not
/// reached Redis since its start refuses requests whose plan then enforces a share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Routers {
    /// The smallest number of routers; a larger number that Redis reported takes precedence.
    pub least: Option<u32>,
    /// The number assumed until Redis has reported how many there are; `None`: `least`.
    pub most: Option<u32>,
}

/// Where the levels are stored.
#[derive(Debug, Clone)]
pub enum LimitStore {
    /// In this router, which must then be the only one.
    Memory {
        /// Receives the usage events; `None`: they are dropped. No request is admitted while half of its capacity or
        /// more is in use; the other half is for the ends of running requests.
        outbox: Option<mpsc::Sender<Entry>>,
    },
    /// In a Redis, or a Redis Cluster, that all routers share.
    Redis {
        /// The address of Redis.
        address: Address,
        /// The folder that keeps usage while Redis cannot be reached; exclusive to one router. `None`: usage is kept
        /// in memory, and lost with the router.
        spool: Option<PathBuf>,
        /// Timeout of a decision.
        timeout: Duration,
    },
}

// === impl LimitsConfig ===

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            store: LimitStore::Memory { outbox: None },
            lease_time: Duration::from_secs(30),
            routers: Routers::default(),
        }
    }
}
