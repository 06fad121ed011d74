//! The store of keys on real Redis: one server, and a cluster of three.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use inferyard_keys::{
    Issued, KeyFields, KeyHash, KeyLimits, KeyStore, ResolveError, RotateError, StoreError,
    WantedKey,
};
use inferyard_test_servers::{Redis, RedisCluster, needs};

const DAY: Duration = Duration::from_hours(24);

/// The key store in this Redis.
fn key_store(redis: &Redis) -> KeyStore {
    KeyStore::new(redis.url().parse().unwrap())
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn wanted(name: &str, account: &str, expires: Option<u64>) -> WantedKey {
    let fields = KeyFields {
        name: name.into(),
        account: account.into(),
        plan: "team".into(),
        expires,
        limits: KeyLimits {
            requests_per_minute: Some(10),
            ..KeyLimits::default()
        },
    };
    WantedKey::new(fields, now()).unwrap()
}

async fn create(store: &KeyStore, name: &str, account: &str) -> Issued {
    store.create(wanted(name, account, None)).await.unwrap()
}

fn ids(keys: &[inferyard_keys::StoredKey]) -> Vec<&str> {
    keys.iter().map(|key| key.id.as_str()).collect()
}

/// The life of a key, the same on one server and on a cluster.
async fn a_key_lives(store: &KeyStore) {
    let issued = create(store, "production", "acme").await;
    let Issued { key, text } = &issued;
    assert_eq!(store.find(&text.hash()).await.unwrap().unwrap(), *key);
    assert_eq!(store.get(&key.id).await.unwrap().unwrap(), *key);
    assert_eq!(key.limits.unwrap().requests_per_minute, Some(10));
    assert_eq!(
        (key.redacted.clone(), key.disabled),
        (text.redacted(), false)
    );
    let hash = text.hash().to_string();
    for called in [&key.id, "production", &key.redacted, &hash, text.reveal()] {
        assert_eq!(store.resolve(called).await.unwrap(), key.id, "{called}");
    }

    let next = store.rotate(&key.id, DAY).await.unwrap();
    assert_eq!(next.key.id, key.id);
    let current = store.find(&next.text.hash()).await.unwrap().unwrap();
    assert_eq!((current.expires, current.disabled), (None, false));
    let before = store.find(&text.hash()).await.unwrap().unwrap();
    let end = before.expires.unwrap();
    assert!((now() + 86_000..=now() + 86_400).contains(&end), "{end}");

    assert!(store.revoke(&key.id).await.unwrap());
    for hash in [text.hash(), next.text.hash()] {
        assert!(store.find(&hash).await.unwrap().unwrap().disabled);
    }
    assert!(store.get(&key.id).await.unwrap().unwrap().disabled);
    assert!(
        store
            .list(Some("acme"), None, 10)
            .await
            .unwrap()
            .keys
            .is_empty()
    );
    let gone = store.resolve("production").await;
    assert!(matches!(gone, Err(ResolveError::Unknown)), "{gone:?}");
    let again = store.rotate(&key.id, DAY).await;
    assert!(matches!(again, Err(RotateError::Revoked)), "{again:?}");
    assert!(store.revoke(&key.id).await.unwrap(), "once more is as good");
    assert!(!store.revoke("key_none").await.unwrap());
    assert_eq!(store.find(&KeyHash::of(b"guess")).await.unwrap(), None);
}

/// Lists in pages, in the order in which keys were made.
async fn keys_are_listed(store: &KeyStore) {
    let mut made = Vec::new();
    for number in 0..7 {
        let account = if number % 2 == 0 { "even" } else { "odd" };
        made.push(create(store, "namesake", account).await.key);
    }
    made.sort_by(|one, other| one.id.cmp(&other.id));
    let made = ids(&made);

    let first = store.list(None, None, 3).await.unwrap();
    assert_eq!((ids(&first.keys), first.more), (made[..3].to_vec(), true));
    let next = store.list(None, Some(made[2]), 3).await.unwrap();
    assert_eq!((ids(&next.keys), next.more), (made[3..6].to_vec(), true));
    let last = store.list(None, Some(made[5]), 3).await.unwrap();
    assert_eq!((ids(&last.keys), last.more), (made[6..].to_vec(), false));
    let odd = store.list(Some("odd"), None, 3).await.unwrap();
    assert_eq!((odd.keys.len(), odd.more), (3, false));
    assert!(odd.keys.iter().all(|key| key.account == "odd"));
    let nobody = store.list(Some("nobody"), None, 3).await.unwrap();
    assert_eq!(nobody, inferyard_keys::Page::default());

    let Err(ResolveError::Ambiguous(found)) = store.resolve("namesake").await else {
        panic!("seven keys have this name");
    };
    assert_eq!(found, made);
}

#[tokio::test]
async fn one_server() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    a_key_lives(&store).await;
    keys_are_listed(&store).await;
}

#[tokio::test]
async fn a_cluster() {
    needs!(Redis);
    let cluster = RedisCluster::start();
    let store = key_store(&cluster.nodes()[1]);
    a_key_lives(&store).await;
    keys_are_listed(&store).await;
    let used = cluster
        .nodes()
        .iter()
        .filter(|node| node.command(&["DBSIZE"]) != "0");
    assert_eq!(used.count(), 3, "keys are spread over all slots");
}

#[tokio::test]
async fn no_text_of_a_key_is_in_redis() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let first = create(&store, "n", "a").await;
    let second = store.rotate(&first.key.id, DAY).await.unwrap();
    let mut dump = String::new();
    for name in redis.command(&["KEYS", "*"]).lines() {
        let kind = redis.command(&["TYPE", name]);
        dump += name;
        dump += &match kind.as_str() {
            "hash" => redis.command(&["HGETALL", name]),
            "set" => redis.command(&["SMEMBERS", name]),
            "zset" => redis.command(&["ZRANGE", name, "0", "-1"]),
            other => panic!("{other}"),
        };
    }
    assert!(dump.contains(&first.text.hash().to_string()));
    for text in [first.text.reveal(), second.text.reveal()] {
        assert!(!dump.contains(&text[4..42]));
    }
}

#[tokio::test]
async fn overlaps_end_no_later_than_promised_and_no_earlier() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let first = create(&store, "n", "a").await;
    let id = &first.key.id;
    let second = store.rotate(id, DAY).await.unwrap();
    let promised = store.find(&first.text.hash()).await.unwrap().unwrap();
    store.rotate(id, 2 * DAY).await.unwrap();
    let kept = store.find(&first.text.hash()).await.unwrap().unwrap();
    assert_eq!(
        kept.expires, promised.expires,
        "a later rotation does not prolong"
    );
    store.rotate(id, Duration::ZERO).await.unwrap();
    for text in [&first.text, &second.text] {
        let ended = store.find(&text.hash()).await.unwrap().unwrap();
        assert!(
            ended.expires.unwrap() <= now(),
            "no overlap ends all at once"
        );
    }
    for _ in 0..7 {
        store.rotate(id, DAY).await.unwrap();
    }
    let many = store.rotate(id, DAY).await;
    assert!(matches!(many, Err(RotateError::TooManyTexts)), "{many:?}");
    let long = store.rotate(id, 91 * DAY).await;
    assert!(matches!(long, Err(RotateError::LongOverlap)), "{long:?}");
    let unknown = store.rotate("key_none", DAY).await;
    assert!(matches!(unknown, Err(RotateError::Unknown)), "{unknown:?}");
}

#[tokio::test]
async fn what_has_ended_is_forgotten_in_the_end() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let lasting = create(&store, "n", "a").await;
    let mortal = store.create(wanted("n", "a", Some(now() + 60))).await;
    let mortal = mortal.unwrap();
    let left = |name: String| redis.command(&["TTL", &name]).parse::<i64>().unwrap();
    let entry = |issued: &Issued| left(format!("iy:key:{}", issued.text.hash()));
    let truth = |issued: &Issued| left(format!("iy:key-id:{}", issued.key.id));
    assert_eq!((entry(&lasting), truth(&lasting)), (-1, -1));
    let month = 30 * 86_400;
    for left in [entry(&mortal), truth(&mortal)] {
        assert!((month..=month + 60).contains(&left), "{left}");
    }
    store.revoke(&lasting.key.id).await.unwrap();
    for left in [entry(&lasting), truth(&lasting)] {
        assert!((month - 60..=month).contains(&left), "{left}");
    }

    // A list leaves out what Redis has forgotten, however much of it comes first.
    for _ in 0..5 {
        let gone = create(&store, "gone", "a").await.key.id;
        redis.command(&["DEL", &format!("iy:key-id:{gone}")]);
    }
    let made = create(&store, "n", "a").await.key.id;
    let list = store.list(None, Some(&mortal.key.id), 1).await.unwrap();
    assert_eq!((ids(&list.keys), list.more), (vec![made.as_str()], false));
    assert_eq!(redis.command(&["ZCARD", "iy:key-list"]), "2");
}

#[tokio::test]
async fn changes_at_the_same_time_leave_no_text_behind() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    for _ in 0..20 {
        let first = create(&store, "n", "a").await;
        let id = first.key.id.clone();
        let (one, another, revoked) = tokio::join!(
            store.rotate(&id, DAY),
            store.rotate(&id, DAY),
            store.revoke(&id)
        );
        assert!(revoked.unwrap());
        let texts = [Ok(first), one, another].into_iter().flatten();
        let texts: HashSet<_> = texts.map(|issued| issued.text.hash()).collect();
        for hash in texts {
            assert!(store.find(&hash).await.unwrap().unwrap().disabled);
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_says_so_and_comes_back() {
    needs!(Redis);
    let mut redis = Redis::start();
    let store = key_store(&redis);
    let issued = create(&store, "n", "a").await;
    redis.kill();
    let away = store.find(&issued.text.hash()).await;
    assert!(
        matches!(away, Err(StoreError::Redis(_) | StoreError::TimedOut)),
        "{away:?}"
    );
    redis.restart();
    let back = async {
        while store.find(&issued.text.hash()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), back)
        .await
        .expect("it should have come back");
    // It kept nothing on disk.
    assert_eq!(store.find(&issued.text.hash()).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_key_is_an_error_and_no_stranger() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let hash = KeyHash::of(b"x");
    redis.command(&["HSET", &format!("iy:key:{hash}"), "k", "nonsense"]);
    let found = store.find(&hash).await;
    assert!(matches!(found, Err(StoreError::Damaged)), "{found:?}");
}

#[tokio::test]
async fn a_key_that_is_damaged_keeps_no_other_from_being_found() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(create(&store, "n", "a").await);
    }
    made.sort_by(|one, other| one.key.id.cmp(&other.key.id));
    let damaged = made.remove(1);
    let names = [
        format!("iy:key-id:{}", damaged.key.id),
        format!("iy:key:{}", damaged.text.hash()),
    ];
    for name in &names {
        redis.command(&["DEL", name]);
        redis.command(&["SET", name, "damaged"]);
    }
    let found = store.find(&damaged.text.hash()).await;
    assert!(matches!(found, Err(StoreError::Damaged)), "{found:?}");
    let found = store.get(&damaged.key.id).await;
    assert!(matches!(found, Err(StoreError::Damaged)), "{found:?}");
    let list = store.list(None, None, 10).await.unwrap();
    assert_eq!(ids(&list.keys), [&made[0].key.id, &made[1].key.id]);
    assert!(
        matches!(store.resolve("n").await, Err(ResolveError::Ambiguous(found)) if found.len() == 2)
    );
    // It is still in the lists: once repaired it is seen again.
    assert_eq!(redis.command(&["ZCARD", "iy:key-list"]), "3");
    for issued in &made {
        let found = store.find(&issued.text.hash()).await.unwrap();
        assert_eq!(found.as_ref(), Some(&issued.key));
    }
}
