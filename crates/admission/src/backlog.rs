//! Ends of requests that the store does not have yet.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::end::End;
use super::spool::{Spool, SpoolError};

/// Estimated bytes of an end in memory, without its event.
const END_BYTES: u64 = 512;
/// Ends that go from memory to disk with one sync.
const AT_ONCE: usize = 64;

/// Keeps ends on disk, or in memory if there is no folder or the disk fails.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) spool: Option<Spool>,
    memory: Mutex<VecDeque<Arc<End>>>,
    memory_bytes: AtomicU64,
    limit: u64,
}

/// Why the usage of a request could not be kept until the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The limit of bytes that wait for the store is reached.
    #[error("the spool is full")]
    Full,
    /// The disk of the spool cannot be written: it is full, or it fails.
    #[error("the disk of the spool cannot be written")]
    Disk,
    /// The limit of usage events that wait for the ledger of this process is reached.
    #[error("the ledger's database takes no usage events")]
    Ledger,
}

// === impl Backlog ===

impl Backlog {
    /// Opens the backlog. From `limit` bytes on no request is admitted; ends of running requests are still kept.
    pub(super) fn open(folder: Option<&Path>, limit: u64) -> Result<Self, SpoolError> {
        Ok(Self {
            spool: folder.map(Spool::open).transpose()?,
            memory: Mutex::default(),
            memory_bytes: AtomicU64::new(0),
            limit,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        let on_disk = self.spool.as_ref().map_or(0, Spool::bytes);
        on_disk + self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= self.limit
    }

    /// Checks that the usage of one more request could be kept. With a folder, only the disk is safe enough: while
    /// anything waits in memory after a disk failure, no request is admitted.
    pub(super) fn room(&self) -> Result<(), NoRoom> {
        if self.is_full() {
            Err(NoRoom::Full)
        } else if self.spool.is_some() && self.memory_bytes.load(Ordering::Relaxed) > 0 {
            Err(NoRoom::Disk)
        } else {
            Ok(())
        }
    }

    /// Keeps an end; returns when it is on disk, or in memory if that is not possible.
    pub(super) async fn keep(&self, end: End) {
        if let Some(spool) = &self.spool
            && spool.append(end.encode()).await
        {
            return;
        }
        self.memory_bytes.fetch_add(size(&end), Ordering::Relaxed);
        self.lock().push_back(Arc::new(end));
    }

    /// Writes to disk what waits in memory after a disk failure. Returns whether nothing is left in memory.
    pub(super) async fn move_to_disk(&self) -> bool {
        let Some(spool) = &self.spool else {
            return !self.has_in_memory();
        };
        loop {
            let ends = self.first_in_memory(AT_ONCE);
            if ends.is_empty() {
                return true;
            }
            let entries: Vec<_> = ends.iter().map(|end| Bytes::from(end.encode())).collect();
            if !spool.append_all(entries).await {
                return false;
            }
            self.take_from_memory(ends.len());
        }
    }

    /// Keeps ends that the store refuses beside the spool. Without a folder they are only logged.
    pub(super) async fn set_aside(&self, entries: &[Bytes]) -> std::io::Result<()> {
        match &self.spool {
            Some(spool) => spool.set_aside(entries).await,
            None => Ok(()),
        }
    }

    /// Returns up to `count` ends from memory without removing them.
    pub(super) fn first_in_memory(&self, count: usize) -> Vec<Arc<End>> {
        self.lock().iter().take(count).cloned().collect()
    }

    /// Removes the first `count` ends from memory. Nothing else removes any, so these are the ones that
    /// `first_in_memory` returned.
    pub(super) fn take_from_memory(&self, count: usize) {
        let taken: u64 = self.lock().drain(..count).map(|end| size(&end)).sum();
        self.memory_bytes.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Appends ends again after all others, so that failing ones do not block them.
    pub(super) fn put_back(&self, ends: impl IntoIterator<Item = Arc<End>>) {
        for end in ends {
            self.memory_bytes.fetch_add(size(&end), Ordering::Relaxed);
            self.lock().push_back(end);
        }
    }

    pub(super) fn count_in_memory(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn has_in_memory(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, VecDeque<Arc<End>>> {
        self.memory.lock()
    }
}

fn size(end: &End) -> u64 {
    END_BYTES + end.event.len() as u64
}
