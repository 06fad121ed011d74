//! Where entries come from: the outbox in Redis, or a router of the same process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferyard_proto::outbox::Entry;
use inferyard_redis_link::Address;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::event::{self, DeadLetter, Event};

mod channel;
mod redis;

pub(crate) use channel::Channel;
pub(crate) use redis::Outbox;

/// Where usage events come from.
#[derive(Debug)]
pub enum Source {
    /// The outbox in Redis, a single server or a cluster; any number of ledgers may share it.
    Redis {
        /// Where it is.
        address: Address,
        /// Entries that another ledger took and did not acknowledge for so long are taken over.
        claim_after: Duration,
    },
    /// A router of this process. The ledger ends once all senders are gone, so that it misses none.
    Channel(mpsc::Receiver<Entry>),
}

/// A source that is being read.
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
    pub(crate) fn new(source: Source) -> Self {
        match source {
            Source::Redis {
                address,
                claim_after,
            } => Self::Redis(Box::new(Outbox::new(address, claim_after))),
            Source::Channel(receiver) => Self::Channel(Channel::new(receiver)),
        }
    }

    /// The next entries, once there are some; none: there will be no more. After `shutdown` an
    /// outbox that is empty, or out of reach, is the end; a channel ends with its last sender.
    /// Meanwhile `connected` tells whether entries can be had at all.
    pub(crate) async fn take(
        &mut self,
        shutdown: &CancellationToken,
        connected: &AtomicBool,
    ) -> Option<Batch> {
        match self {
            Self::Redis(outbox) => outbox.take(shutdown, connected).await,
            Self::Channel(channel) => {
                connected.store(true, Ordering::Relaxed);
                channel.take().await
            }
        }
    }

    /// The entries are stored: they need not be delivered again. A failure does no harm, since an
    /// entry that comes again is known.
    pub(crate) async fn acknowledge(&mut self, batch: Batch) {
        match self {
            Self::Redis(outbox) => outbox.acknowledge(batch.receipt).await,
            Self::Channel(_) => {}
        }
    }

    /// Leaves nothing behind that only this process knew.
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

    pub(crate) fn len(&self) -> usize {
        self.events.len() + self.dead.len()
    }
}
