//! A ledger that is asked to end while its store is locked ends all the same, and loses nothing.

use inferyard_ledger::{DrainError, Store};
use sqlx::{AnyConnection, Connection as _};

use crate::events::{event, sum, totals};
use crate::hosted::{Hosted, rows};

#[tokio::test]
async fn what_a_locked_store_did_not_take_is_there_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let file = folder.path().join("ledger.sqlite.unstored");
    let events: Vec<_> = (0..2_000).map(|number| event(number, "acme")).collect();

    let ledger = Hosted::run(&url, Some(file.clone())).await;
    let mut locking = AnyConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut locking)
        .await
        .unwrap();
    ledger.tell(&events[..1_500]).await;
    ledger.stop.cancel();
    ledger.done.await.unwrap().unwrap();
    assert!(file.exists());

    // A store that is still locked at the next end costs nothing either.
    let ledger = Hosted::run(&url, Some(file.clone())).await;
    ledger.tell(&events[1_500..1_600]).await;
    ledger.stop.cancel();
    ledger.done.await.unwrap().unwrap();
    assert_eq!(rows(&url, "events").await, 0);

    sqlx::raw_sql("ROLLBACK")
        .execute(&mut locking)
        .await
        .unwrap();
    let ledger = Hosted::run(&url, Some(file.clone())).await;
    ledger.tell(&events[1_600..]).await;
    ledger.end().await;
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
    assert!(!file.exists());
}

#[tokio::test]
async fn what_is_lost_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let ledger = Hosted::run(&url, None).await;
    let mut locking = AnyConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut locking)
        .await
        .unwrap();
    let events: Vec<_> = (0..1_500).map(|number| event(number, "acme")).collect();
    ledger.tell(&events).await;
    ledger.stop.cancel();
    let error = ledger.done.await.unwrap().unwrap_err();
    assert!(
        matches!(error, DrainError::Lost { entries: 1_500 }),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_of_another_kind_is_not_read_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unstored");
    std::fs::write(&file, b"something else").unwrap();
    let (_, entries) = tokio::sync::mpsc::channel(1);
    let config = inferyard_ledger::Config {
        store: format!("sqlite:{}/ledger.sqlite", folder.path().display()),
        source: inferyard_ledger::Source::Channel {
            entries,
            leftover: Some(file.clone()),
        },
        listen: None,
        admin_keys: Vec::new(),
        key_store: None,
        drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
    };
    let opened = inferyard_ledger::Ledger::open(config).await;
    let error = opened.err().expect("it should not open").to_string();
    assert!(error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"something else");
}
