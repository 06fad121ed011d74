//! The outbox in Redis: one stream for each bucket of accounts, read by a consumer group.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferyard_proto::outbox::BUCKETS;
use inferyard_redis_link::{Address, Timeouts, explain};
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
/// How often consumers of ledgers that are gone are removed.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// A consumer of the outbox.
pub(crate) struct Outbox {
    address: Address,
    /// Unique, so that no two processes take each other's entries for their own.
    consumer: String,
    claim_after: Duration,
    link: Option<Link>,
}

/// A connection and how far it is.
struct Link {
    connection: Streams,
    /// Entries that were delivered before the connection broke come first.
    own_first: bool,
    next_claim: Instant,
    next_forget: Instant,
}

// === impl Outbox ===

impl Outbox {
    pub(crate) fn new(address: Address, claim_after: Duration) -> Self {
        let random = RandomState::new().build_hasher().finish();
        Self {
            address,
            consumer: format!("ledger-{random:016x}"),
            claim_after,
            link: None,
        }
    }

    pub(crate) async fn take(
        &mut self,
        shutdown: &CancellationToken,
        connected: &AtomicBool,
    ) -> Option<Batch> {
        let mut pause = PAUSES.0;
        loop {
            let read = self.read(shutdown).await;
            connected.store(read.is_ok(), Ordering::Relaxed);
            let failure = match read {
                Ok(entries) if !entries.is_empty() => return Some(batch(entries)),
                Ok(_) if shutdown.is_cancelled() => return None,
                Ok(_) => {
                    pause = PAUSES.0;
                    continue;
                }
                Err(failure) => failure,
            };
            // Whatever it was: a new connection finds the groups, the cluster, or the server anew.
            self.link = None;
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
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    pub(crate) async fn acknowledge(&mut self, receipt: Vec<(u16, Vec<String>)>) {
        let Some(link) = &self.link else { return };
        if let Err(error) = link.connection.acknowledge(receipt).await {
            tracing::warn!(%error, "stored events could not be acknowledged; they will come again and count once");
            self.link = None;
        }
    }

    pub(crate) async fn close(self) {
        if let Some(link) = &self.link {
            // The next ledger forgets it if this fails.
            let _ = link.connection.leave(&self.consumer).await;
        }
    }

    /// What there is, in the order: own entries that were not acknowledged, those of others that are
    /// gone, new ones. Empty: nothing came for a moment.
    async fn read(
        &mut self,
        shutdown: &CancellationToken,
    ) -> Result<Vec<Delivered>, ::redis::RedisError> {
        let consumer = &self.consumer;
        let link = match &mut self.link {
            Some(link) => link,
            None => self.link.insert(Link::open(&self.address).await?),
        };
        if link.own_first {
            let entries = link.connection.read_own(consumer).await?;
            link.own_first = !entries.is_empty();
            if link.own_first {
                return Ok(entries);
            }
        }
        let now = Instant::now();
        if now >= link.next_forget {
            link.next_forget = now + FORGET_EVERY;
            link.connection.forget_gone(consumer).await?;
        }
        if now >= link.next_claim {
            let entries = link.connection.claim(consumer, self.claim_after).await?;
            if entries.is_empty() {
                link.next_claim = now + self.claim_after / 2;
            } else {
                return Ok(entries);
            }
        }
        let waits = !shutdown.is_cancelled();
        let entries = link.connection.read_new(consumer, waits).await?;
        if entries.is_empty() && waits && link.connection.must_be_polled() {
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

// === impl Link ===

impl Link {
    async fn open(address: &Address) -> Result<Self, ::redis::RedisError> {
        let connection = Streams(address.connect(TIMEOUTS).await?);
        connection.create_groups().await?;
        let now = Instant::now();
        Ok(Self {
            connection,
            own_first: true,
            next_claim: now,
            next_forget: now,
        })
    }
}
