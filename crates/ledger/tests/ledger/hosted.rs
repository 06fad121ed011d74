//! Ledgers that a router of the same process would host, their readiness, and what their tables hold.

use std::path::PathBuf;
use std::time::Duration;

use inferyard_ledger::{Address, Config, DrainError, Ledger, Listen, Source};
use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use sqlx::Connection as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::connections::eventually;
use crate::events::entry;
use crate::http;

/// Rows of a table, read through a connection of its own.
pub(crate) async fn rows(url: &str, table: &str) -> i64 {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
    let count = count.fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

/// A ledger that stores what a router of the same process tells it, and its readiness.
pub(crate) struct Hosted {
    /// Takes the events; the ledger ends once it is gone.
    pub(crate) entries: mpsc::Sender<Entry>,
    pub(crate) stop: CancellationToken,
    pub(crate) done: JoinHandle<Result<(), DrainError>>,
    address: Address,
}

// === impl Hosted ===

impl Hosted {
    pub(crate) async fn run(store: &str, leftover: Option<PathBuf>) -> Self {
        let (entries, receiver) = mpsc::channel(10_000);
        let source = Source::Channel {
            entries: receiver,
            leftover,
        };
        let ledger = listening(store, source, Duration::from_millis(300)).await;
        let address = ledger.address().unwrap().clone();
        let stop = CancellationToken::new();
        let done = tokio::spawn(ledger.run(stop.clone()));
        Self {
            entries,
            stop,
            done,
            address,
        }
    }

    pub(crate) async fn tell(&self, events: &[UsageEvent]) {
        for event in events {
            self.entries.send(entry(event)).await.unwrap();
        }
    }

    /// Waits until it says so of its readiness.
    pub(crate) async fn says(&self, status: u16) {
        says(&self.address, status).await;
    }

    /// Its router ends, and so does it.
    pub(crate) async fn end(self) {
        drop(self.entries);
        self.done.await.unwrap().unwrap();
    }
}

/// A ledger with its probes on a free port.
pub(crate) async fn listening(store: &str, source: Source, drain_timeout: Duration) -> Ledger {
    let config = Config {
        store: store.to_owned(),
        source,
        listen: Some("127.0.0.1:0".parse::<Listen>().unwrap()),
        admin_keys: Vec::new(),
        key_store: None,
        drain_timeout,
    };
    Ledger::open(config).await.unwrap()
}

/// Waits until a ledger says so of its readiness.
pub(crate) async fn says(address: &Address, wanted: u16) {
    eventually("another readiness", async || {
        let (status, _) = http::get(address, "GET", "/readyz", None).await;
        (status == wanted).then_some(())
    })
    .await;
}
