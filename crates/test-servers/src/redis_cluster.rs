//! A Redis Cluster of a test's own.

use std::time::{Duration, Instant};

use crate::Redis;

/// How long the nodes may take to agree. They need a second or two; a busy machine gets this long.
const BOUND: Duration = Duration::from_mins(5);

/// Three primaries without replicas, which share the slots. They are killed when this value is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

// === impl RedisCluster ===

impl RedisCluster {
    /// Starts the nodes and waits until all of them know each other.
    ///
    /// # Panics
    ///
    /// The nodes do not form a cluster within five minutes.
    #[must_use]
    pub fn start() -> Self {
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
        let nodes: Vec<_> = (0..3).map(|_| Redis::with(&settings)).collect();
        let slots = [("0", "5461"), ("5462", "10922"), ("10923", "16383")];
        for (index, (node, (first, last))) in nodes.iter().zip(slots).enumerate() {
            node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        let first = nodes[0].port().to_string();
        for node in &nodes {
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &first]);
        }
        let cluster = Self { nodes };
        let started = Instant::now();
        while !cluster.is_formed() {
            assert!(started.elapsed() < BOUND, "the nodes should meet");
        }
        cluster
    }

    /// The address of the first node, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// The nodes, in the order of their slots.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    fn is_formed(&self) -> bool {
        self.nodes.iter().all(|node| {
            let info = node.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    }
}
