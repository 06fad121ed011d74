//! A disk that is full for a moment costs no event.
//!
//! The kernel refuses every write to a file beyond the limit on the size of files (`RLIMIT_FSIZE`). That is a
//! property of a process, so these tests run in processes of their own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inferyard_ledger::{Source, Store};
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_test_servers::{Redis, needs};
use tokio_util::sync::CancellationToken;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::connections::{connect, eventually};
use crate::events::{entry, event, leave, sum, totals, waiting};
use crate::hosted::{Hosted, listening, rows, says};

/// Names the folder to whoever has the limit.
const FOLDER: &str = "LEDGER_FULL_DISK_FOLDER";

/// Runs the test of this name once more, in a process that survives the limit; there it gets the folder.
fn in_a_process_of_its_own(test: &str) -> Option<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER) {
        tracing::subscriber::set_global_default(Warnings).unwrap();
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    // A write beyond the limit is an error where the signal is ignored, and else the end.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(env::current_exe().unwrap())
        .arg(format!("full_disk::{test}"))
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let decoded = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (decoded(&output.stdout), decoded(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}");
    None
}

/// From now on this process cannot write to files, or can again.
fn set_full(full: bool) {
    let limit = if full {
        "--fsize=0:"
    } else {
        "--fsize=unlimited:"
    };
    let process = std::process::id().to_string();
    let done = Command::new("prlimit")
        .args([limit, "--pid", &process])
        .status();
    assert!(done.unwrap().success());
}

/// Counts the warnings of the ledger: one for each write that failed.
struct Warnings;

static WARNINGS: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == "inferyard_ledger::drain"
    }

    fn event(&self, _: &Event<'_>) {
        WARNINGS.fetch_add(1, Ordering::SeqCst);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A connection that goes on after a commit that failed shows it from the second failure on.
async fn fails_again_and_again() {
    eventually("a third failure", async || {
        (WARNINGS.load(Ordering::SeqCst) >= 3).then_some(())
    })
    .await;
}

fn url(folder: &Path) -> String {
    format!("sqlite:{}/ledger.sqlite", folder.display())
}

fn events(numbers: std::ops::Range<u32>) -> Vec<UsageEvent> {
    numbers.map(|number| event(number, "acme")).collect()
}

async fn stored(url: &str, count: i64) {
    eventually("all rows", async || {
        (rows(url, "events").await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_router_is_lost() {
    let Some(folder) = in_a_process_of_its_own("nothing_of_a_router_is_lost") else {
        return;
    };
    let url = url(&folder);
    let events = events(0..290);
    let ledger = Hosted::run(&url, None).await;
    ledger.tell(&events[..10]).await;
    stored(&url, 10).await;
    set_full(true);
    ledger.tell(&events[10..210]).await;
    ledger.says(503).await;
    fails_again_and_again().await;
    assert_eq!(rows(&url, "events").await, 10);
    set_full(false);
    ledger.says(200).await;
    ledger.tell(&events[210..]).await;
    stored(&url, 290).await;
    ledger.end().await;
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}

#[tokio::test]
async fn the_outbox_keeps_what_is_not_committed() {
    needs!(Redis);
    let Some(folder) = in_a_process_of_its_own("the_outbox_keeps_what_is_not_committed") else {
        return;
    };
    let url = url(&folder);
    let redis = Redis::durable();
    let mut connection = connect(&redis).await;
    let source = Source::Redis {
        address: redis.url().parse().unwrap(),
        claim_after: Duration::from_millis(200),
    };
    let ledger = listening(&url, source, inferyard_ledger::DRAIN_TIMEOUT).await;
    let address = ledger.address().unwrap().clone();
    let stop = CancellationToken::new();
    let done = tokio::spawn(ledger.run(stop.clone()));
    let events = events(0..290);
    for event in &events[..10] {
        leave(&mut connection, "acme", &entry(event)).await;
    }
    stored(&url, 10).await;
    eventually("an empty outbox", async || {
        (waiting(&mut connection).await == 0).then_some(())
    })
    .await;
    set_full(true);
    for event in &events[10..210] {
        leave(&mut connection, "acme", &entry(event)).await;
    }
    says(&address, 503).await;
    fails_again_and_again().await;
    assert_eq!(
        (rows(&url, "events").await, waiting(&mut connection).await),
        (10, 200)
    );
    set_full(false);
    says(&address, 200).await;
    for event in &events[210..] {
        leave(&mut connection, "acme", &entry(event)).await;
    }
    eventually("an empty outbox", async || {
        (waiting(&mut connection).await == 0).then_some(())
    })
    .await;
    assert_eq!(
        rows(&url, "events").await,
        290,
        "an entry that is gone is a row"
    );
    stop.cancel();
    done.await.unwrap().unwrap();
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}
