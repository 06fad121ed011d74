//! The outbox in Redis: one stream for each bucket of accounts, read by a consumer group.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::RedisError;
use inferyard_proto::outbox::BUCKETS;
use inferyard_redis_link::{Address, Client, Timeouts, backoff, explain};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::Batch;

mod reply;
mod streams;

use reply::Delivered;
use streams::Streams;

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    // Well above the time that a blocking read waits for entries.
    response: Some(Duration::from_secs(15)),
};
/// First and longest pause before the next attempt to read.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often an idle cluster is polled: one blocking command cannot wait on all nodes.
const POLL: Duration = Duration::from_millis(200);
/// How often damaged streams are tried again.
const RETRY_EVERY: Duration = Duration::from_mins(1);
/// How often consumers of ended ledgers are removed.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// A consumer of the outbox.
pub(crate) struct Outbox {
    client: Client,
    /// Unique, so that no two processes read each other's pending entries as their own.
    consumer: String,
    claim_after: Duration,
    reading: Option<Reading>,
}

/// The streams on one connection, and the state of reading.
struct Reading {
    streams: Streams,
    /// Whether entries that were delivered before the connection broke have to be read first.
    own_first: bool,
    next_claim: Instant,
    next_forget: Instant,
    /// When damaged streams are tried again; `None`: all can be read.
    next_retry: Option<Instant>,
}

// === impl Outbox ===

impl Outbox {
    pub(crate) fn new(address: Address, claim_after: Duration) -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self {
            client: Client::new(address, TIMEOUTS),
            consumer: format!("ledger-{random:016x}"),
            claim_after,
            reading: None,
        }
    }

    pub(crate) async fn take(
        &mut self,
        shutdown: &CancellationToken,
        connected: &AtomicBool,
    ) -> Option<Batch> {
        let mut pauses = backoff(PAUSES.0, PAUSES.1);
        loop {
            let read = self.read(shutdown).await;
            connected.store(read.is_ok(), Ordering::Relaxed);
            let failure = match read {
                Ok(entries) if !entries.is_empty() => return Some(batch(entries)),
                Ok(_) if shutdown.is_cancelled() => return None,
                Ok(_) => {
                    pauses = backoff(PAUSES.0, PAUSES.1);
                    continue;
                }
                Err(failure) => failure,
            };
            self.failed(&failure);
            let pause = pauses.next().unwrap_or(PAUSES.1);
            if shutdown.is_cancelled() {
                tracing::warn!(error = %failure, "the outbox cannot be read; what is in it stays there");
                return None;
            }
            tracing::warn!(
                error = explain(&failure),
                retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "the outbox cannot be read"
            );
            tokio::select! {
                () = time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Drops the state of reading after a failure, so that the consumer groups are checked again, and the connection
    /// too if the error shows that it is lost.
    fn failed(&mut self, failure: &RedisError) {
        if let Some(reading) = self.reading.take() {
            self.client.failed(reading.streams.live(), failure);
        }
    }

    pub(crate) async fn acknowledge(&mut self, receipt: Vec<(u16, Vec<String>)>) {
        let Some(reading) = &self.reading else { return };
        if let Err(error) = reading.streams.acknowledge(receipt).await {
            tracing::warn!(%error, "stored events could not be acknowledged; they will come again and count once");
            self.failed(&error);
        }
    }

    pub(crate) async fn close(self) {
        if let Some(reading) = &self.reading {
            // If this fails, the next ledger removes the consumer.
            let _ = reading.streams.leave(&self.consumer).await;
        }
    }

    /// The next entries, in this order: own entries that were not acknowledged, those of ended consumers, new ones.
    /// Empty: nothing arrived within the blocking time.
    async fn read(&mut self, shutdown: &CancellationToken) -> Result<Vec<Delivered>, RedisError> {
        let consumer = &self.consumer;
        let now = Instant::now();
        let retry = |reading: &Reading| reading.next_retry.is_some_and(|next| now >= next);
        if self.reading.as_ref().is_some_and(retry) {
            self.reading = None;
        }
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => self.reading.insert(Reading::open(&self.client).await?),
        };
        let streams = &reading.streams;
        if reading.own_first {
            let entries = streams.read_own(consumer).await?;
            reading.own_first = !entries.is_empty();
            if reading.own_first {
                return Ok(entries);
            }
        }
        if now >= reading.next_forget {
            reading.next_forget = now + FORGET_EVERY;
            streams.forget_gone(consumer).await?;
        }
        if now >= reading.next_claim {
            let entries = streams.claim(consumer, self.claim_after).await?;
            if entries.is_empty() {
                reading.next_claim = now + self.claim_after / 2;
            } else {
                return Ok(entries);
            }
        }
        let waits = !shutdown.is_cancelled();
        let entries = streams.read_new(consumer, waits).await?;
        if entries.is_empty() && waits && streams.must_be_polled() {
            tokio::select! {
                () = time::sleep(POLL) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(entries)
    }
}

fn batch(entries: Vec<Delivered>) -> Batch {
    let mut batch = Batch::default();
    let mut ids: Vec<Vec<String>> = vec![Vec::new(); BUCKETS.into()];
    for delivered in entries {
        ids[usize::from(delivered.bucket)].push(delivered.id);
        match delivered.entry {
            // The entry was deleted and is only still listed as pending.
            None => {}
            Some(Ok(entry)) => batch.push(entry),
            Some(Err(letter)) => batch.dead.push(letter),
        }
    }
    batch.receipt = (0..BUCKETS)
        .zip(ids)
        .filter(|(_, ids)| !ids.is_empty())
        .collect();
    batch
}

// === impl Reading ===

impl Reading {
    /// Connects, after the pause that follows a failed attempt.
    async fn open(client: &Client) -> Result<Self, RedisError> {
        let live = client.live_after_pause().await?;
        let opened = Streams::open(live.clone()).await;
        let (streams, damaged) = opened.inspect_err(|error| client.failed(&live, error))?;
        let now = Instant::now();
        for (stream, error) in &damaged {
            tracing::error!(
                stream,
                error = explain(error),
                "a stream of the outbox cannot be read: repair or delete its key; the others are read"
            );
        }
        Ok(Self {
            streams,
            own_first: true,
            next_claim: now,
            next_forget: now,
            next_retry: (!damaged.is_empty()).then(|| now + RETRY_EVERY),
        })
    }
}
