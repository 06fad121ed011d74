//! Redis Cluster: all keys of a call are in one slot.

use std::process::Command;
use std::time::Duration;

use inferyard_test_servers::Port;

use super::server::Server;
use super::subject::{Subject, redis_at};
use super::{LIFETIME, again, n, on_plan, used, whole};
use crate::store::{Progressed, Settled, Store as _};

fn start() -> ([(Server, Port); 3], u16) {
    let servers = std::array::from_fn(|_| {
        let port = Port::take();
        let arguments = [
            "--databases",
            "1",
            "--cluster-enabled",
            "yes",
            "--port",
            &port.number().to_string(),
        ];
        (Server::start(&arguments), port)
    });
    let nodes = servers
        .each_ref()
        .map(|(_, port)| format!("127.0.0.1:{}", port.number()));
    let create = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(nodes)
        .arg("--cluster-yes")
        .output()
        .expect("redis-cli should be installed");
    assert!(create.status.success(), "{create:?}");
    let first = servers[0].1.number();
    (servers, first)
}

/// The nodes agree on their slots a moment after the cluster was made.
async fn settled(port: u16) {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut pause = tokio::time::interval(Duration::from_millis(100));
    let agree = async {
        loop {
            pause.tick().await;
            let mut info = redis::cmd("CLUSTER");
            let info: String = info.arg("INFO").query_async(&mut connection).await.unwrap();
            if info.contains("cluster_state:ok") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), agree)
        .await
        .unwrap();
}

#[tokio::test]
async fn three_primaries_serve_every_call() {
    let (_servers, port) = start();
    settled(port).await;
    let subject = redis_at(format!("redis://127.0.0.1:{port}"));
    for number in 0..40 {
        let wanted = on_plan(&format!("account-{number}"), |it| it.requests_total = n(2));
        assert!(subject.is_let_in(&wanted).await);
        let told = subject.progress(&wanted.lease, &used(3, 4)).await;
        assert_eq!(told.unwrap(), Progressed::Renewed);
        let settled = subject.settle(&wanted.lease, &used(5, 6)).await;
        assert_eq!(settled.unwrap(), Settled::Done);
        let left_alone = again(&wanted);
        assert!(subject.is_let_in(&left_alone).await);
        let late = again(&wanted);
        assert!(!subject.is_let_in(&late).await);
        let all = whole(&late, used(1, 1));
        let charged = subject.charge(&late.lease, &all).await;
        assert_eq!(charged.unwrap(), Settled::Done);
    }
    subject.shift(LIFETIME * 2);
    assert_eq!(subject.sweep_all().await, 40);
}
