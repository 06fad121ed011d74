//! `/readyz` says whether events can be had and stored, also while there are none.

use std::time::Duration;

use inferyard_ledger::{DRAIN_TIMEOUT, Source};
use inferyard_test_servers::{Redis, needs};
use tokio_util::sync::CancellationToken;

use crate::hosted::{listening, says};

#[tokio::test]
async fn an_idle_ledger_is_ready_while_redis_answers() {
    needs!(Redis);
    let mut redis = Redis::durable();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let source = Source::Redis {
        address: redis.url().parse().unwrap(),
        claim_after: Duration::from_millis(200),
    };
    let ledger = listening(&store, source, DRAIN_TIMEOUT).await;
    let address = ledger.address().unwrap().clone();
    let stop = CancellationToken::new();
    let until = stop.clone();
    let done = tokio::spawn(async move { ledger.run(until).await.unwrap() });

    says(&address, 200).await;
    redis.kill();
    says(&address, 503).await;
    redis.restart();
    says(&address, 200).await;

    stop.cancel();
    done.await.unwrap();
}
