//! Ends of requests that the store does not have yet.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::end::End;
use super::spool::{Spool, SpoolError};

/// About what an end takes in memory beside its event.
const END_BYTES: u64 = 512;
/// How many ends go from memory to disk with one sync.
const AT_ONCE: usize = 64;

/// Ends wait on disk, or in memory where there is no folder or the disk fails.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) spool: Option<Spool>,
    memory: Mutex<VecDeque<Arc<End>>>,
    memory_bytes: AtomicU64,
    limit: u64,
}

/// Why what a request uses could not be kept until the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// As much waits for the store as may wait.
    #[error("the spool is full")]
    Full,
    /// The disk of the spool cannot be written: it is full, or it fails.
    #[error("the disk of the spool cannot be written")]
    Disk,
    /// As many usage events wait for the ledger of this process as may wait.
    #[error("the ledger's database takes no usage events")]
    Ledger,
}

// === impl Backlog ===

impl Backlog {
    /// From `limit` bytes on nobody is let in; who is in is still written.
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

    /// Whether what one more request uses could be kept. Where there is a folder, only the disk is safe
    /// enough: while anything waits in memory because the disk had failed, no request is admitted.
    pub(super) fn room(&self) -> Result<(), NoRoom> {
        if self.is_full() {
            Err(NoRoom::Full)
        } else if self.spool.is_some() && self.memory_bytes.load(Ordering::Relaxed) > 0 {
            Err(NoRoom::Disk)
        } else {
            Ok(())
        }
    }

    /// Returns when it is as safe as it can be.
    pub(super) async fn keep(&self, end: End) {
        if let Some(spool) = &self.spool
            && spool.append(end.encode()).await
        {
            return;
        }
        self.memory_bytes.fetch_add(size(&end), Ordering::Relaxed);
        self.lock().push_back(Arc::new(end));
    }

    /// Writes to disk what waits in memory because the disk had failed. Says whether all of it is there.
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

    /// Keeps ends that the store refuses beside the spool. Without a folder they are only told.
    pub(super) async fn set_aside(&self, entries: &[Bytes]) -> std::io::Result<()> {
        match &self.spool {
            Some(spool) => spool.set_aside(entries).await,
            None => Ok(()),
        }
    }

    /// Up to `count` of those in memory, which stay there.
    pub(super) fn first_in_memory(&self, count: usize) -> Vec<Arc<End>> {
        self.lock().iter().take(count).cloned().collect()
    }

    /// Takes the first `count` out of memory. It is the only place that does.
    pub(super) fn take_from_memory(&self, count: usize) {
        let taken: u64 = self.lock().drain(..count).map(|end| size(&end)).sum();
        self.memory_bytes.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Puts ends back behind all others, so that failing ones do not block the others.
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

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<End>>> {
        let memory = self.memory.lock();
        memory.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn size(end: &End) -> u64 {
    END_BYTES + end.event.len() as u64
}
