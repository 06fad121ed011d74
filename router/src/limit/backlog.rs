//! Ends of requests that the store does not have yet.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::end::End;
use super::spool::{Spool, SpoolError};

/// About what an end takes in memory beside its event.
const END_BYTES: u64 = 512;

/// Ends wait on disk, or in memory where there is no folder or the disk fails.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) spool: Option<Spool>,
    memory: Mutex<VecDeque<End>>,
    memory_bytes: AtomicU64,
    limit: u64,
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

    /// Returns when it is as safe as it can be.
    pub(super) async fn keep(&self, end: End) {
        if let Some(spool) = &self.spool
            && spool.append(end.encode()).await
        {
            return;
        }
        self.keep_in_memory(end);
    }

    fn keep_in_memory(&self, end: End) {
        self.memory_bytes.fetch_add(size(&end), Ordering::Relaxed);
        self.lock().push_back(end);
    }

    /// Up to `count` of those in memory, which stay there.
    pub(super) fn first_in_memory(&self, count: usize) -> Vec<End> {
        self.lock().iter().take(count).cloned().collect()
    }

    /// Drops the first `count` in memory, except for those that are `left`. Nobody else takes any.
    pub(super) fn drop_from_memory(&self, count: usize, left: Vec<End>) {
        let mut memory = self.lock();
        let before: u64 = memory.drain(..count).map(|end| size(&end)).sum();
        let after: u64 = left.iter().map(size).sum();
        for end in left.into_iter().rev() {
            memory.push_front(end);
        }
        let dropped = before.saturating_sub(after);
        self.memory_bytes.fetch_sub(dropped, Ordering::Relaxed);
    }

    pub(super) fn has_in_memory(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<End>> {
        let memory = self.memory.lock();
        memory.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn size(end: &End) -> u64 {
    END_BYTES + end.event.len() as u64
}
