//! Redis Cluster: all keys of a call are in one slot.

use inferyard_test_servers::{RedisCluster, needs};

use super::subject::{Subject, redis_at};
use super::{LIFETIME, again, n, on_plan, used, whole};
use crate::store::{Progressed, Settled, Store as _};

#[tokio::test]
async fn three_primaries_serve_every_call() {
    needs!(Redis);
    let cluster = RedisCluster::start();
    let subject = redis_at(cluster.url());
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
