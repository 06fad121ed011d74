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
    // Well above the time that a read waits for entries.
    response: Some(Duration::from_secs(15)),
};
/// First and longest pause before the next try to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a cluster is asked, where nothing came: one command cannot wait for all its nodes.
const POLL: Duration = Duration::from_millis(200);
/// How often streams that could not be read are tried again.
const RETRY_EVERY: Duration = Duration::from_mins(1);
/// How often consumers of ledgers that are gone are removed.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// A consumer of the outbox.
pub(crate) struct Outbox {
    client: Client,
    /// Unique, so that no two processes take each other's entries for their own.
    consumer: String,
    claim_after: Duration,
    reading: Option<Reading>,
}

/// The streams on a connection, and how far they are read.
struct Reading {
    streams: Streams,
    /// Entries that were delivered before the connection broke come first.
    own_first: bool,
    next_claim: Instant,
    next_forget: Instant,
    /// When streams that cannot be read are tried again; `None`: all can.
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

    /// Whatever it was: the groups are looked at anew. On a new connection if this one is of no more use,
    /// which then finds the cluster, or the server, anew.
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
            // The next ledger forgets it if this fails.
            let _ = reading.streams.leave(&self.consumer).await;
        }
    }

    /// What there is, in the order: own entries that were not acknowledged, those of others that are
    /// gone, new ones. Empty: nothing came for a moment.
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
            // It was deleted, and is only still listed as pending.
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
    /// Waits for the next try to connect, where the last one has failed.
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
