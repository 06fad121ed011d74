//! Where entries come from: the outbox in Redis, or a router of the same process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferyard_proto::outbox::Entry;
use inferyard_redis_link::Address;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::event::{self, DeadLetter, Event};

mod channel;
mod leftover;
mod redis;

pub(crate) use channel::Channel;
pub use leftover::LeftoverError;
pub(crate) use redis::Outbox;

/// Where usage events come from.
#[derive(Debug)]
pub enum Source {
    /// The outbox in Redis, a single server or a cluster; any number of ledgers may share it.
    Redis {
        /// Address of the server, or of a node of the cluster.
        address: Address,
        /// Entries that another ledger took and did not acknowledge within this time are taken over.
        claim_after: Duration,
    },
    /// A router of this process. The ledger ends when all senders are dropped, so that it misses no event.
    Channel {
        /// Receives the entries.
        entries: mpsc::Receiver<Entry>,
        /// File for entries that could not be stored before the end; the next ledger reads it first. `None`: they are
        /// lost.
        leftover: Option<PathBuf>,
    },
}

/// An open source.
pub(crate) enum Open {
    Redis(Box<Outbox>),
    Channel(Channel),
}

/// Entries that were taken and are not acknowledged yet.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    pub(crate) dead: Vec<DeadLetter>,
    /// Ids within the streams of the outbox; empty for a channel.
    receipt: Vec<(u16, Vec<String>)>,
}

// === impl Open ===

impl Open {
    pub(crate) fn new(source: Source) -> Result<Self, LeftoverError> {
        Ok(match source {
            Source::Redis {
                address,
                claim_after,
            } => Self::Redis(Box::new(Outbox::new(address, claim_after))),
            Source::Channel { entries, leftover } => {
                Self::Channel(Channel::new(entries, leftover)?)
            }
        })
    }

    /// The next entries, once there are some; `None`: there will be no more. After `shutdown` that is an outbox which
    /// is empty or unreachable, or an empty channel; a channel without senders also ends before. `connected` is set to
    /// whether the source can be read.
    pub(crate) async fn take(
        &mut self,
        shutdown: &CancellationToken,
        connected: &AtomicBool,
    ) -> Option<Batch> {
        match self {
            Self::Redis(outbox) => outbox.take(shutdown, connected).await,
            Self::Channel(channel) => {
                connected.store(true, Ordering::Relaxed);
                channel.take(shutdown).await
            }
        }
    }

    /// Acknowledges stored entries, so that they are not delivered again. A failure does no harm: an entry that is
    /// delivered twice is stored once.
    pub(crate) async fn acknowledge(&mut self, batch: Batch) {
        match self {
            Self::Redis(outbox) => outbox.acknowledge(batch.receipt).await,
            Self::Channel(channel) => channel.acknowledge(),
        }
    }

    /// Gives up entries that were not acknowledged; returns how many are lost.
    pub(crate) fn abandon(self) -> usize {
        match self {
            Self::Redis(_) => {
                tracing::warn!(
                    "the store did not take all events before the end; those that it did not take stay in Redis"
                );
                0
            }
            Self::Channel(channel) => channel.abandon(),
        }
    }

    /// Releases what this consumer holds in the source.
    pub(crate) async fn close(self) {
        match self {
            Self::Redis(outbox) => outbox.close().await,
            Self::Channel(_) => {}
        }
    }
}

// === impl Batch ===

impl Batch {
    fn push(&mut self, entry: Entry) {
        match event::read(entry) {
            Ok(event) => self.events.push(event),
            Err(letter) => self.dead.push(letter),
        }
    }
}
