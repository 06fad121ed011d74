//! A Redis Cluster on this machine.

use inferyard_test_servers::Redis;

/// Three primaries that share the slots.
pub(crate) fn start() -> Vec<Redis> {
    let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
    let nodes: Vec<_> = (0..3).map(|_| Redis::with(&settings)).collect();
    let slots = ["0 5461", "5462 10922", "10923 16383"];
    for (index, (node, slots)) in nodes.iter().zip(slots).enumerate() {
        let (first, last) = slots.split_once(' ').unwrap();
        node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
    }
    for node in &nodes {
        let first = nodes[0].port().to_string();
        node.command(&["CLUSTER", "MEET", "127.0.0.1", &first]);
    }
    let all_know = || {
        nodes.iter().all(|node| {
            let info = node.command(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    };
    let patience = std::time::Instant::now();
    while !all_know() {
        assert!(patience.elapsed().as_secs() < 60, "the nodes should meet");
    }
    nodes
}
