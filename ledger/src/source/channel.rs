//! Entries of a router in this process.

use inferyard_proto::outbox::Entry;
use tokio::sync::mpsc;

use super::Batch;

/// Most entries of a batch.
const MOST: usize = 1_024;

/// The receiving end.
pub(crate) struct Channel(mpsc::Receiver<Entry>);

// === impl Channel ===

impl Channel {
    pub(crate) fn new(receiver: mpsc::Receiver<Entry>) -> Self {
        Self(receiver)
    }

    pub(crate) async fn take(&mut self) -> Option<Batch> {
        let mut entries = Vec::new();
        if self.0.recv_many(&mut entries, MOST).await == 0 {
            return None;
        }
        let mut batch = Batch::default();
        for entry in entries {
            batch.push(entry);
        }
        Some(batch)
    }
}
