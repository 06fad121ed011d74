//! A folder in which what was used waits on disk until the store has it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

mod segment;

pub(super) use segment::Contents;

/// A segment is closed when it is as long as this.
const SEGMENT: u64 = 4 << 20;
const EXTENSION: &str = "spool";
const LOCK: &str = "lock";

/// The folder, which belongs to this process alone for as long as this lives.
#[derive(Debug)]
pub(super) struct Spool {
    /// Entries that wait for their turn to be written, all of them with one sync.
    waiting: Mutex<Vec<Waiting>>,
    /// Whoever has it writes for all who wait.
    turn: tokio::sync::Mutex<()>,
    files: Arc<Mutex<Files>>,
    /// Of all segments; beside `files`, which is locked while the disk works.
    bytes: Arc<AtomicU64>,
    _lock: File,
}

#[derive(Debug)]
struct Waiting {
    entry: Vec<u8>,
    written: oneshot::Sender<bool>,
}

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// Complete ones, the oldest first.
    closed: VecDeque<Segment>,
    open: Option<(Segment, File)>,
    next: u64,
    bytes: Arc<AtomicU64>,
}

/// A file of the folder.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    path: PathBuf,
    length: u64,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be made or read.
    #[error("cannot make or read the folder {folder} of the spool")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another router uses {folder} for its spool: give every router a folder of its own")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

// === impl Spool ===

impl Spool {
    /// Takes the folder, and finds what was left in it.
    pub(super) fn open(folder: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Folder {
            folder: folder.to_owned(),
            source,
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(failed)?;
        let lock = create(&folder.join(LOCK), false).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SpoolError::InUse {
                folder: folder.to_owned(),
            },
            TryLockError::Error(source) => failed(source),
        })?;
        let closed = found(folder).map_err(failed)?;
        let next = closed.back().map_or(0, |(number, _)| number + 1);
        let closed: VecDeque<_> = closed.into_iter().map(|(_, segment)| segment).collect();
        let bytes = closed.iter().map(|segment| segment.length).sum();
        let bytes = Arc::new(AtomicU64::new(bytes));
        Ok(Self {
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            files: Arc::new(Mutex::new(Files {
                folder: folder.to_owned(),
                closed,
                open: None,
                next,
                bytes: Arc::clone(&bytes),
            })),
            bytes,
            _lock: lock,
        })
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes an entry; returns when it is on disk, or `false` where that failed. Entries that come
    /// while others are being written share one sync.
    pub(super) async fn append(&self, entry: Vec<u8>) -> bool {
        if entry.len() > segment::LONGEST_ENTRY {
            tracing::error!(bytes = entry.len(), "too long for the spool");
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

    async fn write(&self, batch: Vec<Waiting>) {
        let mut framed = Vec::new();
        for waiting in &batch {
            segment::frame(&waiting.entry, &mut framed);
        }
        let result = self.on_disk(move |files| files.append(&framed)).await;
        if let Err(error) = &result {
            tracing::error!(%error, "cannot write to the spool; what was used waits in memory");
        }
        for waiting in batch {
            // Who no longer waits has ended with the process.
            let _ = waiting.written.send(result.is_ok());
        }
    }

    /// Segments as they are now, the oldest first; what comes later goes into further ones.
    pub(super) async fn segments(&self) -> Vec<Segment> {
        let segments = self.on_disk(|files| {
            files.close();
            Ok(files.closed.iter().cloned().collect())
        });
        segments.await.unwrap_or_default()
    }

    /// Reads a segment. The error `InvalidData` says that it is of another version.
    pub(super) async fn read(&self, segment: &Segment) -> io::Result<Contents> {
        let path = segment.path.clone();
        let bytes = blocking(move || fs::read(path)).await?;
        segment::parse(bytes.into())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Deletes a segment: the store has all of it.
    pub(super) async fn remove(&self, segment: &Segment) -> io::Result<()> {
        let path = segment.path.clone();
        let remove = move |files: &mut Files| {
            fs::remove_file(&path)?;
            files.forget(&path);
            Ok(())
        };
        self.on_disk(remove).await
    }

    /// Leaves a segment that cannot be read to somebody who looks at it, under another name.
    pub(super) async fn put_aside(&self, segment: &Segment) -> io::Result<()> {
        let path = segment.path.clone();
        let rename = move |files: &mut Files| {
            fs::rename(&path, path.with_extension("unreadable"))?;
            files.forget(&path);
            Ok(())
        };
        self.on_disk(rename).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Files) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = Arc::clone(&self.files);
        let work = move || {
            let mut files = lock(&files);
            let result = work(&mut files);
            files.bytes.store(files.total(), Ordering::Relaxed);
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

// === impl Files ===

impl Files {
    fn total(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |(segment, _)| segment.length);
        self.closed
            .iter()
            .map(|segment| segment.length)
            .sum::<u64>()
            + open
    }

    /// Appends to the open segment and syncs it. After a failure nothing of `framed` stays.
    fn append(&mut self, framed: &[u8]) -> io::Result<()> {
        let (mut segment, mut file) = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let written = file.write_all(framed).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What stands there half must not come before what comes later.
            let cut = file.set_len(segment.length);
            self.closed.push_back(segment);
            return cut.and(Err(error));
        }
        segment.length += framed.len() as u64;
        if segment.length >= SEGMENT {
            self.closed.push_back(segment);
        } else {
            self.open = Some((segment, file));
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<(Segment, File)> {
        let path = self.folder.join(format!("{:016x}.{EXTENSION}", self.next));
        self.next += 1;
        let mut file = create(&path, true)?;
        file.write_all(&segment::HEADER)?;
        File::open(&self.folder)?.sync_all()?;
        let length = segment::HEADER.len() as u64;
        Ok((Segment { path, length }, file))
    }

    fn close(&mut self) {
        if let Some((segment, _)) = self.open.take() {
            self.closed.push_back(segment);
        }
    }

    fn forget(&mut self, path: &Path) {
        self.closed.retain(|segment| segment.path != path);
    }
}

fn create(path: &Path, new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    if new {
        options.create_new(true);
    } else {
        options.create(true);
    }
    options.open(path)
}

/// Segments of an earlier life, by their numbers.
fn found(folder: &Path) -> io::Result<VecDeque<(u64, Segment)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let path = file.path();
        let number = path.file_stem().and_then(|stem| stem.to_str());
        let number = number.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        if let Some(number) = number
            && path.extension().is_some_and(|end| end == EXTENSION)
        {
            let length = file.metadata()?.len();
            found.push((number, Segment { path, length }));
        }
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found.into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
