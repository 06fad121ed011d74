//! The settings of the limits.

use inferyard_redis_link::Address;
use std::path::PathBuf;
use std::time::Duration;

use inferyard_proto::outbox::Entry;
use tokio::sync::mpsc;

/// Where limits are counted, and how.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Where the meters are.
    pub store: LimitStore,
    /// What a router that dies held is free again after so long.
    pub lease_time: Duration,
    /// How many routers share the limits while Redis cannot be reached.
    pub routers: Routers,
}

/// How many routers share the limits, as far as that is known beforehand. Without either number, a router that has
/// not heard from Redis since its start refuses requests of plans that then enforce a share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Routers {
    /// The smallest number of routers; if more were last heard of, those count.
    pub least: Option<u32>,
    /// The number that is assumed before Redis has told how many there are; `None`: `least`.
    pub most: Option<u32>,
}

/// Where the meters are.
#[derive(Debug, Clone)]
pub enum LimitStore {
    /// In this router, which then must be the only one.
    Memory {
        /// Receives the usage events; `None`: they are dropped. While half of its capacity or more is
        /// in use, no request is let in; the other half is for the ends of those that run.
        outbox: Option<mpsc::Sender<Entry>>,
    },
    /// In a Redis, or a Redis Cluster, that all routers share.
    Redis {
        /// Where it is.
        address: Address,
        /// The folder in which what was used waits while Redis cannot be reached. One router has
        /// it for itself. `None`: it waits in memory, and is lost with the router.
        spool: Option<PathBuf>,
        /// How long a decision may take.
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
