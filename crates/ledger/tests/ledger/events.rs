//! Usage events as routers write them, and ledgers that are run on them.

use std::time::Duration;

use bytes::Bytes;
use inferyard_ledger::{Config, Dimension, Ledger, Period, Source, Store, Totals};
use inferyard_proto::outbox::{self, BILLED, EVENT, Entry, PART};
use inferyard_proto::usage::v1::{Price, UsageEvent};
use prost::Message as _;
use redis::aio::ConnectionLike;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// 2026-11-22 10:00:00 UTC.
pub(crate) const TEN: i64 = 1_795_341_600;

/// A ledger that runs.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    done: JoinHandle<()>,
}

/// The event number `number` of an account.
pub(crate) fn event(number: u32, account: &str) -> UsageEvent {
    let ended_us = (u64::try_from(TEN).unwrap() + u64::from(number) % 7_200) * 1_000_000;
    UsageEvent {
        request_id: format!("req_{number:032x}"),
        account: account.to_owned(),
        key: format!("{account}-{}", number % 3),
        plan: "pro".to_owned(),
        model: ["demo", "large"][usize::from(number.is_multiple_of(5))].to_owned(),
        endpoint: "/v1/chat/completions".to_owned(),
        stream: number.is_multiple_of(2),
        price: Some(Price {
            version: "0a1b2c3d".to_owned(),
            input: 5_000,
            cached_input: 500,
            output: 5_000,
        }),
        admitted_us: ended_us - 1_000_000,
        worker_instance: 0xb007,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: u64::from(number % 50),
        reasoning_tokens: 1,
        cost_nanodollars: 32_000 + 5_000 * u64::from(number % 50),
        status: 200,
        code: "ok".to_owned(),
        ended_us,
        first_token_us: 9_000,
    }
}

pub(crate) fn entry(event: &UsageEvent) -> Entry {
    Entry {
        event: event.encode_to_vec().into(),
        part: 0,
        billed: Bytes::new(),
    }
}

/// What the events sum up to.
pub(crate) fn sum<'a>(events: impl IntoIterator<Item = &'a UsageEvent>) -> Totals {
    let mut totals = Totals::default();
    for event in events {
        totals += Totals {
            requests: 1,
            prompt_tokens: event.prompt_tokens.try_into().unwrap(),
            cached_tokens: event.cached_tokens.try_into().unwrap(),
            completion_tokens: event.completion_tokens.try_into().unwrap(),
            reasoning_tokens: event.reasoning_tokens.try_into().unwrap(),
            cost_nanodollars: event.cost_nanodollars.try_into().unwrap(),
        };
    }
    totals
}

/// Writes an entry into the outbox, as the limiter does.
pub(crate) async fn leave(redis: &mut impl ConnectionLike, account: &str, entry: &Entry) {
    let mut add = redis::cmd("XADD");
    add.arg(outbox::stream(outbox::bucket(account))).arg("*");
    add.arg(EVENT).arg(&entry.event[..]);
    if entry.part > 0 {
        add.arg(PART).arg(entry.part);
        add.arg(BILLED).arg(&entry.billed[..]);
    }
    let _id: String = add.query_async(redis).await.unwrap();
}

/// How many entries the outbox holds.
pub(crate) async fn waiting(redis: &mut impl ConnectionLike) -> usize {
    let mut lengths = redis::pipe();
    for bucket in 0..outbox::BUCKETS {
        lengths.cmd("XLEN").arg(outbox::stream(bucket));
    }
    let lengths: Vec<usize> = lengths.query_async(redis).await.unwrap();
    lengths.iter().sum()
}

/// Everything in the store, by hours and by events: both must say the same. A ledger may write meanwhile.
pub(crate) async fn totals(store: &Store) -> Totals {
    loop {
        let by_hour = sums(store, 0).await;
        let by_minute = sums(store, 60).await;
        // Nothing was written between the two.
        if sums(store, 0).await == by_hour {
            assert_eq!(by_hour, by_minute);
            return by_hour;
        }
    }
}

async fn sums(store: &Store, width: i64) -> Totals {
    let period = Period {
        from: 0,
        to: TEN * 2,
        width,
        group_by: vec![Dimension::Account],
        filters: Vec::new(),
        limit: i64::MAX,
    };
    let rows = store.usage(&period).await.unwrap();
    rows.into_iter().fold(Totals::default(), |mut sum, row| {
        sum += row.totals;
        sum
    })
}

/// A ledger that drains Redis into a store.
pub(crate) async fn run(redis: &str, store: &str) -> Running {
    let config = Config {
        store: store.to_owned(),
        source: Source::Redis {
            address: redis.parse().unwrap(),
            claim_after: Duration::from_millis(200),
        },
        listen: None,
        admin_keys: Vec::new(),
        key_store: None,
        drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
    };
    let ledger = Ledger::open(config).await.unwrap();
    let stop = CancellationToken::new();
    let until = stop.clone();
    let done = tokio::spawn(async move { ledger.run(until).await.unwrap() });
    Running { stop, done }
}

// === impl Running ===

impl Running {
    /// Asks it to stop, and waits until it has.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.done.await.unwrap();
    }

    /// Ends it without a word, wherever it is.
    pub(crate) async fn abort(self) {
        self.done.abort();
        let _ = self.done.await;
    }
}
