//! The outbox spread over a Redis Cluster of three primaries.

use inferyard_ledger::Store;
use inferyard_proto::outbox;
use inferyard_test_servers::{RedisCluster, needs};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;

use crate::connections::eventually;
use crate::events::{entry, event, leave, run, sum, totals};

async fn connect(cluster: &RedisCluster) -> ClusterConnection {
    let client = ClusterClient::new([cluster.url()]).unwrap();
    client.get_async_connection().await.unwrap()
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
    needs!(Redis);
    let cluster = RedisCluster::start();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let mut connection = connect(&cluster).await;
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
