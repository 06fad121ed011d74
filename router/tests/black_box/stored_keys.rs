//! Keys that no manifest declares, from the store to the response.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use inferyard_keys::{Issued, KeyFields, KeyStore, WantedKey};

use crate::support::{TestRouter, catalog, eventually, within};
use inferyard_test_servers::{Redis, needs};

/// Longer than a cached key is served without asking the store (2 s). The tests of the cache check the exact
/// time.
const PAST_FRESH: Duration = Duration::from_secs(3);

/// The key store in this Redis.
fn key_store(redis: &Redis) -> KeyStore {
    KeyStore::new(redis.url().parse().unwrap())
}

/// A router that also uses the keys of this store.
async fn router(store: &KeyStore) -> TestRouter {
    let store = store.clone();
    TestRouter::unready(catalog(vec![]), |config| config.key_store = Some(store)).await
}

async fn create(store: &KeyStore, plan: &str, expires: Option<u64>) -> Issued {
    let fields = KeyFields {
        name: "n".into(),
        account: "a".into(),
        plan: plan.into(),
        expires,
        ..KeyFields::default()
    };
    let wanted = WantedKey::new(fields, 0).unwrap();
    store.create(wanted).await.unwrap()
}

/// Status and code of the response to a request with this key; a list of models has no code.
async fn ask(router: &TestRouter, key: &str) -> (u16, String) {
    let mut connection = router.connect().await;
    let request =
        format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
    connection.send(request.as_bytes()).await;
    let answer = connection.answer().await;
    let code = answer.json()["error"]["code"].as_str().map(str::to_owned);
    (answer.head.status, code.unwrap_or_default())
}

#[tokio::test]
async fn a_stored_key_works_from_the_start_and_ends_although_it_is_in_use() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let router = router(&store).await;
    let Issued { key, text } = create(&store, "plan", None).await;
    assert_eq!(ask(&router, text.reveal()).await.0, 200);

    store.revoke(&key.id).await.unwrap();
    // The key is in constant use, so the router keeps it in its cache.
    eventually(async || ask(&router, text.reveal()).await.0 == 401).await;
    let refused = ask(&router, text.reveal()).await;
    assert_eq!(refused, (401, "invalid_api_key".to_owned()));
    router.end().await;
}

#[tokio::test]
async fn a_rotated_key_works_with_both_texts_until_the_overlap_ends() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let router = router(&store).await;
    let first = create(&store, "plan", None).await;
    let second = store.rotate(&first.key.id, Duration::from_hours(1)).await;
    let second = second.unwrap();
    for text in [&first.text, &second.text] {
        assert_eq!(ask(&router, text.reveal()).await.0, 200);
    }
    let third = store.rotate(&first.key.id, Duration::ZERO).await.unwrap();
    assert_eq!(ask(&router, third.text.reveal()).await.0, 200);
    for text in [&first.text, &second.text] {
        eventually(async || ask(&router, text.reveal()).await.0 == 401).await;
    }
    router.end().await;
}

#[tokio::test]
async fn an_expired_key_and_one_without_a_plan_are_refused() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let router = router(&store).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expired = create(&store, "plan", Some(now.as_secs())).await;
    let planless = create(&store, "gone", None).await;
    for issued in [expired, planless] {
        let answer = ask(&router, issued.text.reveal()).await;
        assert_eq!(answer, (401, "invalid_api_key".to_owned()));
    }
    router.end().await;
}

#[tokio::test]
async fn one_question_serves_all_who_wait_for_it() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let router = router(&store).await;
    let issued = create(&store, "plan", None).await;
    // The store's connection is open from here on, and the creation of the key is not counted.
    redis.command(&["CONFIG", "RESETSTAT"]);
    // The store delays its answers while the other requests arrive. The pause is far below the timeout of a
    // look-up (1 s); a request that is late on a busy machine finds the answer in the cache.
    redis.command(&["CLIENT", "PAUSE", "200", "ALL"]);
    let key = issued.text.reveal();
    let asking = std::iter::repeat_with(|| {
        let request =
            format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n");
        let address = router.address;
        tokio::spawn(async move {
            let mut connection = crate::support::Connection::open(address).await;
            connection.send(request.as_bytes()).await;
            connection.answer().await.head.status
        })
    });
    let asking: Vec<_> = asking.take(100).collect();
    for answer in asking {
        assert_eq!(within(answer).await.unwrap(), 200);
    }
    let stats = redis.command(&["INFO", "commandstats"]);
    let lookups = stats.lines().find(|line| line.starts_with("cmdstat_hget:"));
    assert!(lookups.unwrap().contains("calls=1,"), "{lookups:?}");
    router.end().await;
}

#[tokio::test]
async fn while_redis_is_away_known_keys_work_and_others_are_not_called_wrong() {
    needs!(Redis);
    let mut redis = Redis::start();
    let store = key_store(&redis);
    let router = router(&store).await;
    let known = create(&store, "plan", None).await;
    let other = create(&store, "plan", None).await;
    assert_eq!(ask(&router, known.text.reveal()).await.0, 200);
    redis.kill();
    let lost = Instant::now();
    let away = (503, "key_store_unavailable".to_owned());
    assert_eq!(ask(&router, other.text.reveal()).await, away);
    // Until the cached key is too old to be served without asking.
    eventually(async || {
        assert_eq!(ask(&router, known.text.reveal()).await.0, 200);
        lost.elapsed() > PAST_FRESH
    })
    .await;
    assert_eq!(
        ask(&router, crate::support::KEY).await.0,
        200,
        "a manifest's key"
    );

    // The store returns empty: unknown keys are refused again.
    redis.restart();
    for issued in [known, other] {
        eventually(async || ask(&router, issued.text.reveal()).await.0 == 401).await;
    }
    router.end().await;
}
