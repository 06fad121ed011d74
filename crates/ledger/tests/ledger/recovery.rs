//! Nothing is lost and nothing counts twice when a ledger, Redis or PostgreSQL goes away.

use inferyard_ledger::Store;
use inferyard_proto::outbox;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_test_servers::{Postgres, Redis, needs};
use redis::aio::MultiplexedConnection;

use crate::connections::{connect, eventually};
use crate::events::{entry, event, leave, run, sum, totals, waiting};

fn events(numbers: std::ops::Range<u32>) -> Vec<UsageEvent> {
    numbers
        .map(|number| event(number, &format!("account-{}", number % 20)))
        .collect()
}

async fn leave_all(redis: &mut MultiplexedConnection, events: &[UsageEvent]) {
    for event in events {
        leave(redis, &event.account, &entry(event)).await;
    }
}

/// Takes all that waits, as a ledger that is killed before it acknowledges.
async fn take_and_die(redis: &mut MultiplexedConnection) {
    for bucket in 0..outbox::BUCKETS {
        let name = outbox::stream(bucket);
        let _: redis::RedisResult<()> = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(&name)
            .arg(outbox::GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .query_async(redis)
            .await;
        let _: redis::Value = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg(outbox::GROUP)
            .arg("dead")
            .arg("STREAMS")
            .arg(&name)
            .arg(">")
            .query_async(redis)
            .await
            .unwrap();
    }
}

async fn drained(redis: &mut MultiplexedConnection) {
    eventually("an empty outbox", async || {
        (waiting(redis).await == 0).then_some(())
    })
    .await;
}

/// Consumers of all streams.
async fn consumers(redis: &mut MultiplexedConnection) -> usize {
    let mut count = 0;
    for bucket in 0..outbox::BUCKETS {
        let list: Vec<redis::Value> = redis::cmd("XINFO")
            .arg("CONSUMERS")
            .arg(outbox::stream(bucket))
            .arg(outbox::GROUP)
            .query_async(redis)
            .await
            .unwrap();
        count += list.len();
    }
    count
}

#[tokio::test]
async fn the_outbox_is_emptied_into_the_store() {
    needs!(Redis);
    let redis = Redis::durable();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let mut connection = connect(&redis).await;
    let first = events(0..500);
    leave_all(&mut connection, &first).await;
    let _: String = redis::cmd("XADD")
        .arg(outbox::stream(3))
        .arg("*")
        .arg("hello")
        .arg("world")
        .query_async(&mut connection)
        .await
        .unwrap();
    let ledger = run(&redis.url(), &url).await;
    drained(&mut connection).await;
    // What comes while it waits, and while it stops.
    let more = events(500..600);
    leave_all(&mut connection, &more).await;
    ledger.end().await;
    assert_eq!(waiting(&mut connection).await, 0);
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(first.iter().chain(&more)));
    assert_eq!(store.dead_letters().await.unwrap(), 1);
    assert_eq!(consumers(&mut connection).await, 0);
}

#[tokio::test]
async fn a_ledger_that_died_before_it_acknowledged_is_taken_over() {
    needs!(Redis, Postgres);
    let redis = Redis::durable();
    let postgres = Postgres::start();
    let mut connection = connect(&redis).await;
    // Committed and acknowledged; then the same again, taken by one that dies, and some that it took
    // and never stored.
    let events = events(0..400);
    leave_all(&mut connection, &events[..300]).await;
    let first = run(&redis.url(), &postgres.url()).await;
    drained(&mut connection).await;
    first.end().await;
    leave_all(&mut connection, &events).await;
    take_and_die(&mut connection).await;

    let second = run(&redis.url(), &postgres.url()).await;
    drained(&mut connection).await;
    second.end().await;
    let store = Store::open_existing(&postgres.url()).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}

#[tokio::test]
async fn ledgers_that_are_cut_off_anywhere_leave_the_sums_right() {
    needs!(Redis, Postgres);
    let redis = Redis::durable();
    let postgres = Postgres::start();
    let mut connection = connect(&redis).await;
    let events = events(0..2_000);
    let mut cut_off = 0;
    for some in events.chunks(200) {
        leave_all(&mut connection, some).await;
        // Two at once, and one of them ends wherever it is.
        let one = run(&redis.url(), &postgres.url()).await;
        let other = run(&redis.url(), &postgres.url()).await;
        let before = waiting(&mut connection).await;
        eventually("a first acknowledgement", async || {
            let now = waiting(&mut connection).await;
            (now == 0 || now < before).then_some(())
        })
        .await;
        one.abort().await;
        other.abort().await;
        cut_off += 2;
    }
    let last = run(&redis.url(), &postgres.url()).await;
    drained(&mut connection).await;
    last.end().await;
    let store = Store::open_existing(&postgres.url()).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events), "{cut_off} were cut off");
}

#[tokio::test]
async fn two_ledgers_share_the_work() {
    needs!(Redis, Postgres);
    let redis = Redis::durable();
    let postgres = Postgres::start();
    let mut connection = connect(&redis).await;
    let one = run(&redis.url(), &postgres.url()).await;
    let other = run(&redis.url(), &postgres.url()).await;
    let events = events(0..1_000);
    // Each twice: the two ledgers may have the same event at the same time.
    let mut again = connect(&redis).await;
    tokio::join!(
        leave_all(&mut connection, &events),
        leave_all(&mut again, &events)
    );
    drained(&mut connection).await;
    one.end().await;
    other.end().await;
    let store = Store::open_existing(&postgres.url()).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}

#[tokio::test]
async fn a_redis_that_was_killed_and_came_back_is_drained() {
    needs!(Redis);
    let mut redis = Redis::durable();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let mut connection = connect(&redis).await;
    let events = events(0..600);
    leave_all(&mut connection, &events[..300]).await;
    let ledger = run(&redis.url(), &url).await;
    redis.kill();
    redis.restart();
    let mut connection = connect(&redis).await;
    leave_all(&mut connection, &events[300..]).await;
    drained(&mut connection).await;
    ledger.end().await;
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}

#[tokio::test]
async fn a_redis_that_lost_all_its_data_is_drained_of_what_comes_next() {
    needs!(Redis);
    let redis = Redis::durable();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let mut connection = connect(&redis).await;
    let events = events(0..100);
    let ledger = run(&redis.url(), &url).await;
    leave_all(&mut connection, &events[..50]).await;
    drained(&mut connection).await;
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut connection)
        .await
        .unwrap();
    leave_all(&mut connection, &events[50..]).await;
    drained(&mut connection).await;
    ledger.end().await;
    let store = Store::open_existing(&url).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}

#[tokio::test]
async fn events_wait_in_redis_while_postgresql_is_away() {
    needs!(Redis, Postgres);
    let redis = Redis::durable();
    let mut postgres = Postgres::start();
    let mut connection = connect(&redis).await;
    let ledger = run(&redis.url(), &postgres.url()).await;
    let events = events(0..200);
    leave_all(&mut connection, &events[..100]).await;
    drained(&mut connection).await;
    postgres.stop();
    leave_all(&mut connection, &events[100..]).await;
    assert_eq!(waiting(&mut connection).await, 100);
    postgres.restart();
    drained(&mut connection).await;
    ledger.end().await;
    let store = Store::open_existing(&postgres.url()).await.unwrap();
    assert_eq!(totals(&store).await, sum(&events));
}

/// Makes the stream of a bucket a key of another type.
async fn damage(redis: &mut MultiplexedConnection, bucket: u16) {
    let mut pipe = redis::pipe();
    pipe.atomic();
    pipe.cmd("DEL").arg(outbox::stream(bucket));
    pipe.cmd("SET").arg(outbox::stream(bucket)).arg("damaged");
    pipe.exec_async(redis).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_another_type_keeps_no_other_from_being_read() {
    needs!(Redis);
    let redis = Redis::durable();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let mut connection = connect(&redis).await;
    let damaged = [outbox::bucket("account-0"), outbox::bucket("account-1")];
    let mut good = events(0..400);
    good.retain(|event| !damaged.contains(&outbox::bucket(&event.account)));
    let (before, after) = good.split_at(good.len() / 2);
    // One is damaged when the ledger starts, the other while it runs.
    damage(&mut connection, damaged[0]).await;
    leave_all(&mut connection, before).await;
    let ledger = run(&redis.url(), &url).await;
    let store = Store::open_existing(&url).await.unwrap();
    let stored = async |events: &[UsageEvent]| {
        let expected = sum(events);
        eventually("all events of the other streams", async || {
            (totals(&store).await == expected).then_some(())
        })
        .await;
    };
    stored(before).await;
    damage(&mut connection, damaged[1]).await;
    leave_all(&mut connection, after).await;
    stored(&good).await;
    ledger.end().await;

    // Repaired, they are read again.
    let mut rest = events(0..400);
    rest.retain(|event| damaged.contains(&outbox::bucket(&event.account)));
    for bucket in damaged {
        let _: u64 = redis::cmd("DEL")
            .arg(outbox::stream(bucket))
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    leave_all(&mut connection, &rest).await;
    let ledger = run(&redis.url(), &url).await;
    drained(&mut connection).await;
    ledger.end().await;
    assert_eq!(totals(&store).await, sum(&events(0..400)));
}
