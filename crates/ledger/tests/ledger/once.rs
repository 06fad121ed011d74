//! Every event counts once, in both stores.

use bytes::Bytes;
use inferyard_ledger::{Config, Ledger, Source, Store, Totals, instance_text};
use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_test_servers::{Postgres, needs};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::events::{entry, event, sum, totals};

/// Stores entries of a router in the same process, and returns once all are.
async fn store_all(url: &str, entries: Vec<Entry>) {
    let (sender, receiver) = mpsc::channel(16);
    let config = Config {
        store: url.to_owned(),
        source: Source::Channel {
            entries: receiver,
            leftover: None,
        },
        listen: None,
        admin_keys: Vec::new(),
        key_store: None,
        drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
    };
    let ledger = Ledger::open(config).await.unwrap();
    let send = async move {
        for entry in entries {
            sender.send(entry).await.unwrap();
        }
    };
    let (done, ()) = tokio::join!(ledger.run(CancellationToken::new()), send);
    done.unwrap();
}

fn part(number: u32, event: &UsageEvent, billed: &UsageEvent) -> Entry {
    Entry {
        part: number,
        billed: billed.encode_to_vec().into(),
        ..entry(event)
    }
}

/// Duplicates, parts in any order, noise: the sums are exact.
async fn everything_counts_once(url: &str) {
    let events: Vec<_> = (0..700).map(|number| event(number, "acme")).collect();
    let mut entries: Vec<_> = events.iter().map(entry).collect();
    entries.extend(events.iter().rev().map(entry));

    // Number 49 was billed twice before it ended: up to 20 tokens, up to 30, and up to the end.
    let up_to = |tokens: u64| UsageEvent {
        completion_tokens: tokens,
        cost_nanodollars: 32_000 + 5_000 * tokens,
        ..event(49, "acme")
    };
    entries.retain(|entry| entry.event != crate::events::entry(&event(49, "acme")).event);
    entries.push(part(2, &event(49, "acme"), &up_to(30)));
    entries.push(entry(&up_to(20)));
    entries.push(part(1, &up_to(30), &up_to(20)));
    entries.push(part(2, &event(49, "acme"), &up_to(30)));

    let noise = Entry {
        event: Bytes::from_static(b"\x00\xff noise"),
        part: 0,
        billed: Bytes::new(),
    };
    entries.insert(300, noise.clone());
    entries.push(noise);

    store_all(url, entries.clone()).await;
    let store = Store::open_existing(url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
    assert_eq!(store.dead_letters().await.unwrap(), 1);

    // All over again: a ledger that was killed before it acknowledged.
    store_all(url, entries).await;
    assert_eq!(totals(&store).await, sum(&events));
    assert_eq!(store.dead_letters().await.unwrap(), 1);

    let workers = store.workers(0).await.unwrap();
    let [worker] = &workers[..] else {
        panic!("one worker: {workers:?}");
    };
    let expected = sum(&events);
    assert_eq!(worker.instance, instance_text(0xb007));
    assert_eq!(
        (worker.requests, worker.prompt_tokens, worker.cached_tokens),
        (
            expected.requests,
            expected.prompt_tokens,
            expected.cached_tokens
        )
    );
    assert_eq!(worker.completion_tokens, expected.completion_tokens);
}

#[tokio::test]
async fn everything_counts_once_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    // Characters that mean something in a URL.
    let path = folder.path().join("le dger?#%41.sqlite");
    everything_counts_once(&format!("sqlite:{}", path.display())).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn everything_counts_once_in_postgresql() {
    needs!(Postgres);
    let postgres = Postgres::start();
    everything_counts_once(&postgres.url()).await;
}

#[tokio::test]
async fn an_event_that_the_store_refuses_is_set_aside() {
    needs!(Postgres);
    let postgres = Postgres::start();
    store_all(&postgres.url(), Vec::new()).await;
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&postgres.url()).await.unwrap();
    sqlx::query("ALTER TABLE events ADD CHECK (completion_tokens <> 13)")
        .execute(&pool)
        .await
        .unwrap();
    let events: Vec<_> = (0..50).map(|number| event(number, "acme")).collect();
    store_all(&postgres.url(), events.iter().map(entry).collect()).await;
    let store = Store::open_existing(&postgres.url()).await.unwrap();
    let others = events.iter().filter(|event| event.completion_tokens != 13);
    assert_eq!(totals(&store).await, sum(others));
    assert_eq!(store.dead_letters().await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite:{}/none.sqlite", folder.path().display());
    let error = Store::open_existing(&missing).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no ledger at"),
        "{error}"
    );
    let error = Store::open("mysql://localhost").await.unwrap_err();
    assert!(error.to_string().contains("sqlite:PATH"), "{error}");
    let nobody = format!("postgres://localhost/x?host={}", folder.path().display());
    let error = Store::open(&nobody).await.unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn an_empty_ledger_has_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let store = Store::open(&url).await.unwrap();
    assert_eq!(totals(&store).await, Totals::default());
}
