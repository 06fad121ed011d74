//! `/readyz` says whether events can be had and stored, also while there are none.

use std::time::Duration;

use inferyard_ledger::{Config, Ledger, Listen, Source};
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::servers::{Redis, eventually};

#[tokio::test]
async fn an_idle_ledger_is_ready_while_redis_answers() {
    let mut redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        store: format!("sqlite:{}/ledger.sqlite", folder.path().display()),
        source: Source::Redis {
            address: redis.url().parse().unwrap(),
            claim_after: Duration::from_millis(200),
        },
        listen: Some("127.0.0.1:0".parse::<Listen>().unwrap()),
        admin_keys: Vec::new(),
        key_store: None,
    };
    let ledger = Ledger::open(config).await.unwrap();
    let address = ledger.address().unwrap().clone();
    let stop = CancellationToken::new();
    let until = stop.clone();
    let done = tokio::spawn(async move { ledger.run(until).await.unwrap() });

    let says = async |wanted: u16| {
        eventually("another readiness", async || {
            let (status, _) = http::get(&address, "GET", "/readyz", None).await;
            (status == wanted).then_some(())
        })
        .await;
    };
    says(200).await;
    redis.kill();
    says(503).await;
    redis.restart().await;
    says(200).await;

    stop.cancel();
    done.await.unwrap();
}
