//! kill -9 of the ledger in the middle of a burst: the sums are exact.

use std::sync::atomic::{AtomicBool, Ordering};

use inferyard_ledger::Store;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_test_servers::{Postgres, Redis, needs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::connections::{connect, eventually};
use crate::events::{entry, event, leave, sum, waiting};
use crate::{Process, inferyard};

const KILLS: usize = 8;

#[tokio::test]
async fn a_ledger_that_is_killed_in_a_burst_loses_and_doubles_nothing() {
    needs!(Redis, Postgres);
    let redis = Redis::durable();
    let postgres = Postgres::start();
    let arguments = [
        "ledger",
        "--redis",
        &redis.url(),
        "--store",
        &postgres.url(),
        "--claim-after",
        "200ms",
        "--json",
    ]
    .map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut writer = connect(&redis).await;
    let enough = AtomicBool::new(false);
    let burst = async {
        let mut events = Vec::new();
        for number in 0.. {
            if enough.load(Ordering::Relaxed) {
                break;
            }
            let event = event(number, &format!("account-{}", number % 30));
            leave(&mut writer, &event.account, &entry(&event)).await;
            events.push(event);
        }
        events
    };
    let kills = async {
        for _ in 0..KILLS {
            let (ledger, line) = Process::start(&arguments);
            assert_eq!(line, "{\"address\":null}\n");
            let store = Store::open_existing(&postgres.url()).await.unwrap();
            let before = stored(&store).await;
            eventually("another commit", async || {
                (stored(&store).await > before).then_some(())
            })
            .await;
            // SIGKILL, wherever it is: the last commit need not be acknowledged.
            drop(ledger);
        }
        enough.store(true, Ordering::Relaxed);
    };
    let (events, ()) = tokio::join!(burst, kills);

    let mut watcher = connect(&redis).await;
    let (mut ledger, _) = Process::start(&arguments);
    eventually("an empty outbox", async || {
        (waiting(&mut watcher).await == 0).then_some(())
    })
    .await;
    kill_process(Pid::from_child(&ledger.0), Signal::TERM).unwrap();
    assert_eq!(ledger.0.wait().unwrap().code(), Some(0));
    check(&postgres.url(), &events);
}

/// How many requests are committed.
async fn stored(store: &Store) -> i64 {
    let workers = store.workers(0).await.unwrap();
    workers.iter().map(|worker| worker.requests).sum()
}

/// What `inferyard usage` prints is what the events sum up to.
fn check(store: &str, events: &[UsageEvent]) {
    let output = inferyard(&[
        "usage",
        "--store",
        store,
        "--by",
        "key",
        "--day",
        "--from",
        "2026-11-22",
        "--to",
        "2026-11-22",
        "--output",
        "json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let column =
        |name: &str| -> i64 { lines.iter().map(|line| line[name].as_i64().unwrap()).sum() };
    let expected = sum(events);
    assert_eq!(column("requests"), expected.requests);
    assert_eq!(column("input_tokens"), expected.prompt_tokens);
    assert_eq!(column("output_tokens"), expected.completion_tokens);
    assert_eq!(column("cost_nanodollars"), expected.cost_nanodollars);
    assert!(lines.iter().all(|line| line["day"] == "2026-11-22"));
    assert_eq!(lines.len(), 30, "every account has one key here");
}
