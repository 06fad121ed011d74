//! The outbox spread over a Redis Cluster of three primaries.

use std::process::{Child, Command, Stdio};

use inferyard_ledger::Store;
use inferyard_proto::outbox;
use inferyard_test_servers::Port;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use tempfile::TempDir;

use crate::events::{entry, event, leave, run, sum, totals};
use crate::servers::eventually;

/// Primaries on loopback.
struct Cluster {
    ports: Vec<Port>,
    processes: Vec<Child>,
    folders: Vec<TempDir>,
}

// === impl Cluster ===

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self {
            ports: Vec::new(),
            processes: Vec::new(),
            folders: Vec::new(),
        };
        for _ in 0..3 {
            let port = Port::take();
            let folder = tempfile::tempdir().unwrap();
            let process = Command::new("redis-server")
                .args(["--port", &port.number().to_string()])
                .args(["--bind", "127.0.0.1", "--cluster-enabled", "yes"])
                .args(["--save", "", "--appendonly", "no"])
                .arg("--dir")
                .arg(folder.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server should be installed");
            cluster.processes.push(process);
            cluster.ports.push(port);
            cluster.folders.push(folder);
        }
        let slots = ["0 5460", "5461 10922", "10923 16383"];
        for (port, range) in cluster.ports.iter().zip(slots) {
            tell(port.number(), &format!("CLUSTER ADDSLOTSRANGE {range}")).await;
        }
        let first = cluster.ports[0].number();
        for port in &cluster.ports[1..] {
            let meet = format!("CLUSTER MEET 127.0.0.1 {}", port.number());
            tell(first, &meet).await;
        }
        for port in &cluster.ports {
            eventually("a cluster that works", async || {
                let info = tell(port.number(), "CLUSTER INFO").await;
                (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3"))
                    .then_some(())
            })
            .await;
        }
        cluster
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.ports[0].number())
    }

    async fn connect(&self) -> ClusterConnection {
        let client = ClusterClient::new([self.url()]).unwrap();
        client.get_async_connection().await.unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One command to one node, once it answers.
async fn tell(port: u16, line: &str) -> String {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    let mut node = eventually("an answer of a node", async || {
        client.get_multiplexed_async_connection().await.ok()
    })
    .await;
    command.query_async(&mut node).await.unwrap()
}

async fn waiting(cluster: &mut ClusterConnection) -> usize {
    let mut sum = 0;
    for bucket in 0..outbox::BUCKETS {
        let mut length = redis::cmd("XLEN");
        length.arg(outbox::stream(bucket));
        let length: usize = length.query_async(cluster).await.unwrap();
        sum += length;
    }
    sum
}

#[tokio::test]
async fn all_shards_are_drained() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let mut connection = cluster.connect().await;
    let events: Vec<_> = (0..500)
        .map(|number| event(number, &format!("account-{}", number % 100)))
        .collect();
    for event in &events[..300] {
        leave(&mut connection, &event.account, &entry(event)).await;
    }
    let ledger = run(&cluster.url(), &url).await;
    for event in &events[300..] {
        leave(&mut connection, &event.account, &entry(event)).await;
    }
    eventually("an empty outbox", async || {
        (waiting(&mut connection).await == 0).then_some(())
    })
    .await;
    ledger.end().await;
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}
