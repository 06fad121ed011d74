//! The admin API of keys stands behind the same admin keys.

use inferyard_keys::{KeyHash, KeyStore};
use inferyard_ledger::{Config, Ledger, Listen, Source};
use inferyard_test_servers::{Redis, needs};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::http;

const KEY: &str = "admin-key";
const KEYS: &str = "/v1/organization/api_keys";

#[tokio::test]
async fn only_admins_reach_keys_and_only_where_there_is_a_key_store() {
    needs!(Redis);
    let redis = Redis::durable();
    let folder = tempfile::tempdir().unwrap();
    for with_keys in [true, false] {
        let (entries, receiver) = mpsc::channel(1);
        let config = Config {
            store: format!("sqlite:{}", folder.path().join("ledger").display()),
            source: Source::Channel {
                entries: receiver,
                leftover: None,
            },
            listen: Some("127.0.0.1:0".parse::<Listen>().unwrap()),
            admin_keys: vec![KeyHash::of(KEY.as_bytes())],
            key_store: with_keys.then(|| KeyStore::new(redis.url().parse().unwrap())),
            drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
        };
        let ledger = Ledger::open(config).await.unwrap();
        let address = ledger.address().unwrap().clone();
        let done = tokio::spawn(ledger.run(CancellationToken::new()));
        for (key, status) in [(None, 401), (Some("iy-guess"), 401)] {
            assert_eq!(http::get(&address, "GET", KEYS, key).await.0, status);
        }
        let (status, body) = http::get(&address, "GET", KEYS, Some(KEY)).await;
        assert_eq!(status, if with_keys { 200 } else { 404 }, "{body}");
        drop(entries);
        done.await.unwrap().unwrap();
    }
}
