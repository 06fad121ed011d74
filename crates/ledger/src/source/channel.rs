//! Entries of a router in this process.

use std::path::PathBuf;

use inferyard_proto::outbox::Entry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Batch;
use super::leftover::{Leftover, LeftoverError};

/// Most entries of a batch.
const MOST: usize = 1_024;

/// The receiving end.
pub(crate) struct Channel {
    entries: mpsc::Receiver<Entry>,
    leftover: Leftover,
    /// What was taken and is not acknowledged yet.
    taken: Vec<Entry>,
}

// === impl Channel ===

impl Channel {
    /// A channel that begins with what an earlier ledger left in the file `leftover`.
    pub(crate) fn new(
        entries: mpsc::Receiver<Entry>,
        leftover: Option<PathBuf>,
    ) -> Result<Self, LeftoverError> {
        Ok(Self {
            entries,
            leftover: Leftover::open(leftover)?,
            taken: Vec::new(),
        })
    }

    pub(crate) async fn take(&mut self, shutdown: &CancellationToken) -> Option<Batch> {
        self.taken = self.leftover.take(MOST);
        if self.taken.is_empty() {
            tokio::select! {
                biased;
                _ = self.entries.recv_many(&mut self.taken, MOST) => {}
                // The router is gone, and what it told is in the channel.
                () = shutdown.cancelled() => {}
            }
        }
        if self.taken.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        for entry in &self.taken {
            batch.push(entry.clone());
        }
        Some(batch)
    }

    pub(crate) fn acknowledge(&mut self) {
        self.taken.clear();
        self.leftover.acknowledge();
    }

    /// Leaves what is not stored to the next ledger; returns how many entries are lost.
    pub(crate) fn abandon(mut self) -> usize {
        let mut entries = self.taken;
        entries.extend(self.leftover.take(usize::MAX));
        self.entries.close();
        while let Ok(entry) = self.entries.try_recv() {
            entries.push(entry);
        }
        self.leftover.keep(&entries)
    }
}
