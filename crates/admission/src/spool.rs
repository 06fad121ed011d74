//! A folder that keeps ends of requests on disk until the store has them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

mod files;
mod segment;

use files::Files;
pub(super) use files::Segment;
pub(super) use segment::{Contents, Entry};

const LOCK: &str = "lock";

/// The folder, locked for this process while this value exists.
#[derive(Debug)]
pub(super) struct Spool {
    /// Entries to be written together with one sync.
    waiting: Mutex<Vec<Waiting>>,
    /// The holder writes the entries of all callers that wait for it.
    turn: tokio::sync::Mutex<()>,
    files: Arc<Mutex<Files>>,
    /// Bytes of all segments. Outside of `files`, because that lock is held during disk writes.
    bytes: Arc<AtomicU64>,
    _lock: File,
}

#[derive(Debug)]
struct Waiting {
    entry: Vec<u8>,
    written: oneshot::Sender<bool>,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be created or read.
    #[error("cannot make or read the folder {folder} of the spool")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("another router uses {folder} for its spool: give every router a folder of its own")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

// === impl Spool ===

impl Spool {
    /// Locks the folder, and finds the segments left in it.
    pub(super) fn open(folder: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(failed)?;
        let lock = files::create(&folder.join(LOCK), false).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::InUse {
                folder: folder.to_owned(),
            },
            TryLockError::Error(source) => failed(source),
        })?;
        let files = Files::find(folder).map_err(failed)?;
        Ok(Self {
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            bytes: Arc::new(AtomicU64::new(files.total())),
            files: Arc::new(Mutex::new(files)),
            _lock: lock,
        })
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes an entry; returns `true` once it is on disk, `false` after an error. Entries that arrive during a write
    /// share the next sync.
    pub(super) async fn append(&self, entry: Vec<u8>) -> bool {
        if entry.len() > segment::LONGEST_ENTRY {
            tracing::error!(bytes = entry.len(), "an entry is too long for the spool");
            return false;
        }
        let (written, is_written) = oneshot::channel();
        let waiting = Waiting { entry, written };
        lock(&self.waiting).push(waiting);
        let _turn = self.turn.lock().await;
        let batch = mem::take(&mut *lock(&self.waiting));
        if !batch.is_empty() {
            self.write(batch).await;
        }
        is_written.await.unwrap_or(false)
    }

    /// Writes all entries with one sync, or none of them; logs an error.
    pub(super) async fn append_all(&self, entries: Vec<Bytes>) -> bool {
        let mut framed = Vec::new();
        for entry in &entries {
            segment::frame(entry, &mut framed);
        }
        let result = self.on_disk(move |files| files.append(&framed)).await;
        if let Err(error) = &result {
            tracing::error!(
                %error,
                "cannot write to the spool; usage is kept in memory, and new requests are refused"
            );
        }
        result.is_ok()
    }

    async fn write(&self, batch: Vec<Waiting>) {
        let (entries, written): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (Bytes::from(waiting.entry), waiting.written))
            .unzip();
        let is_written = self.append_all(entries).await;
        for written in written {
            // If the receiver is gone, its caller was cancelled; the entry is on disk anyway.
            let _ = written.send(is_written);
        }
    }

    /// Closes the open segment, and returns all segments, oldest first. Later entries go into new ones.
    pub(super) async fn segments(&self) -> Vec<Segment> {
        let segments = self.on_disk(|files| Ok(files.close()));
        segments.await.unwrap_or_default()
    }

    /// Reads the waiting entries of a segment. `InvalidData`: it has another version.
    pub(super) async fn read(&self, segment: &Segment) -> io::Result<Contents> {
        let path = segment.path.clone();
        let (bytes, done) = self
            .on_disk(move |files| Ok((fs::read(&path)?, files.done(&path))))
            .await?;
        let contents = segment::parse(bytes.into());
        let mut contents =
            contents.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        contents.entries.retain(|entry| !done.contains(&entry.at));
        Ok(contents)
    }

    /// Marks entries of a segment as done, so that no process sends them again. After a disk error, this process
    /// still treats them as done.
    pub(super) async fn mark(&self, segment: &Segment, done: Vec<u32>) -> io::Result<()> {
        let path = segment.path.clone();
        self.on_disk(move |files| files.mark(&path, &done)).await
    }

    /// Deletes a segment in which no entry waits.
    pub(super) async fn remove(&self, segment: &Segment) -> io::Result<()> {
        let path = segment.path.clone();
        self.on_disk(move |files| files.remove(&path)).await
    }

    /// Renames a segment that cannot be read, so that it is kept for inspection.
    pub(super) async fn put_aside(&self, segment: &Segment) -> io::Result<()> {
        let path = segment.path.clone();
        let rename = move |files: &mut Files| files.rename(&path, "unreadable");
        self.on_disk(rename).await
    }

    /// Keeps entries that the store refuses in a separate file; the next process with this folder tries them again.
    /// The file is bounded: the oldest entries are dropped first.
    pub(super) async fn set_aside(&self, entries: &[Bytes]) -> io::Result<()> {
        let mut framed = Vec::new();
        for entry in entries {
            segment::frame(entry, &mut framed);
        }
        let dropped = self.on_disk(move |files| files.set_aside(&framed)).await?;
        if dropped {
            tracing::error!(
                "the store of limits refused more than the spool can set aside; the oldest is dropped"
            );
        }
        Ok(())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Files) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (files, bytes) = (Arc::clone(&self.files), Arc::clone(&self.bytes));
        let work = move || {
            let mut files = lock(&files);
            let result = work(&mut files);
            bytes.store(files.total(), Ordering::Relaxed);
            result
        };
        blocking(work).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let result = spawn_blocking(work).await;
    result.unwrap_or_else(|_| Err(io::Error::other("the work on the spool has died")))
}

fn lock<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests;
