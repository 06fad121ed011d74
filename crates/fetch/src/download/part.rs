//! An incomplete file: its bytes, their running checksum, and a journal of where they are from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::checksum::{Checksum, Hasher};
use crate::download::DownloadError;
use crate::folder::{self, Folder, Here};
use crate::list::Remote;
use crate::plan::NoRoom;
use crate::progress::Progress;

/// Bytes that are written between two syncs: they may wait in memory, which counts towards a pod's memory limit.
const SYNC_EVERY: u64 = 64 << 20;

/// The bytes of a file that are here.
pub(super) struct Part {
    path: PathBuf,
    journal_path: PathBuf,
    target: PathBuf,
    file: File,
    length: u64,
    /// Where its bytes are from.
    journal: Journal,
    hasher: Hasher,
    expected: Option<Checksum>,
    size: Option<u64>,
    progress: Arc<Progress>,
}

/// Where bytes are from. For a file without a checksum it decides whether they can be resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    from: String,
    #[serde(default)]
    expected: Option<Checksum>,
    /// `ETag` or `Last-Modified`: another value means another file.
    #[serde(default)]
    validator: Option<String>,
    /// Number of bytes that are synced to disk.
    synced: u64,
}

// === impl Part ===

impl Part {
    /// Opens the part of an earlier process, or a new one. Bytes that are here are read for the checksum.
    pub(super) fn open(
        folder: &Folder,
        remote: &Remote,
        from: String,
        progress: Arc<Progress>,
    ) -> Result<Self, DownloadError> {
        let (path, journal_path) = (folder.part(&remote.name), folder.journal(&remote.name));
        let opened = (|| {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
        })();
        let file = opened.map_err(write(&path))?;
        let fresh = Journal {
            from,
            expected: remote.checksum,
            ..Journal::default()
        };
        let journal = read(&journal_path).filter(|journal| journal.continues(&fresh));
        let mut part = Self {
            hasher: Hasher::new(remote.checksum.as_ref(), remote.size.unwrap_or(0)),
            target: remote.name.within(folder.path()),
            length: 0,
            journal: fresh,
            expected: remote.checksum,
            size: remote.size,
            path,
            journal_path,
            file,
            progress,
        };
        if let Some(journal) = journal {
            part.resume(journal)?;
        }
        part.file.set_len(part.length).map_err(write(&part.path))?;
        Ok(part)
    }

    /// Resumes the bytes of an earlier process. With a checksum all of them count, because it finds those that a crash
    /// lost; without one only synced bytes do.
    fn resume(&mut self, journal: Journal) -> Result<(), DownloadError> {
        let there = self.file.metadata().map_err(write(&self.path))?.len();
        let trusted = if self.expected.is_some() {
            there
        } else {
            there.min(journal.synced)
        };
        self.journal = journal;
        if self.size.is_some_and(|size| trusted > size) {
            return Ok(());
        }
        self.hasher
            .read(&mut self.file, trusted)
            .map_err(write(&self.path))?;
        self.length = trusted;
        self.progress.found(trusted);
        Ok(())
    }

    /// Number of bytes that are here.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The validator that must not have changed if the rest is requested; `None`: the checksum finds a change.
    pub(super) fn validator(&self) -> Option<&str> {
        if self.expected.is_some() {
            None
        } else {
            self.journal.validator.as_deref()
        }
    }

    /// Whether the rest can be requested with a range.
    pub(super) fn can_go_on(&self) -> bool {
        self.length > 0 && (self.expected.is_some() || self.journal.validator.is_some())
    }

    /// Records the validator of a response, from which the following bytes are.
    pub(super) fn begin(&mut self, validator: Option<String>) -> Result<(), DownloadError> {
        self.journal.validator = validator;
        self.journal.synced = self.journal.synced.min(self.length);
        self.write_journal()
    }

    /// Drops all bytes.
    pub(super) fn reset(&mut self) -> Result<(), DownloadError> {
        self.progress.lost(self.length);
        self.length = 0;
        self.journal.synced = 0;
        self.hasher = Hasher::new(self.expected.as_ref(), self.size.unwrap_or(0));
        let rewound = self
            .file
            .set_len(0)
            .and_then(|()| io::Seek::rewind(&mut self.file));
        rewound.map_err(write(&self.path))
    }

    /// Appends chunks until the channel is closed.
    pub(super) fn append(
        &mut self,
        chunks: &mut mpsc::Receiver<Bytes>,
    ) -> Result<(), DownloadError> {
        while let Some(chunk) = chunks.blocking_recv() {
            self.file
                .write_all(&chunk)
                .map_err(|error| self.unwritten(error))?;
            self.hasher.update(&chunk);
            self.length += chunk.len() as u64;
            self.progress.came(chunk.len() as u64);
            if self.length - self.journal.synced >= SYNC_EVERY {
                self.sync()?;
            }
        }
        self.sync()
    }

    /// The checksum of the bytes that are here.
    pub(super) fn checksum(&self) -> Checksum {
        self.hasher.clone().finish()
    }

    /// Syncs the file and renames it to its name.
    pub(super) fn keep(self, checksum: Checksum) -> Result<Here, DownloadError> {
        let kept = (|| {
            self.file.sync_all()?;
            fs::create_dir_all(self.target.parent().unwrap_or(Path::new("/")))?;
            folder::rename(&self.path, &self.target)?;
            match fs::remove_file(&self.journal_path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            Ok(Here::of(&self.file.metadata()?, checksum))
        })();
        kept.map_err(write(&self.target))
    }

    /// Removes the part and its journal.
    pub(super) fn remove(self) -> Result<(), DownloadError> {
        let removed =
            fs::remove_file(&self.path).and_then(|()| match fs::remove_file(&self.journal_path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
        removed.map_err(write(&self.path))
    }

    fn sync(&mut self) -> Result<(), DownloadError> {
        if self.journal.synced == self.length {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|error| self.unwritten(error))?;
        self.journal.synced = self.length;
        self.write_journal()
    }

    fn write_journal(&self) -> Result<(), DownloadError> {
        let text = serde_json::to_vec(&self.journal).expect("a journal should be JSON");
        folder::replace(&self.journal_path, &text).map_err(|error| self.unwritten(error))
    }

    /// Reports a full disk with the numbers of bytes.
    fn unwritten(&self, error: io::Error) -> DownloadError {
        if !matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return write(&self.path)(error);
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        let space = rustix::fs::statvfs(folder);
        DownloadError::Room {
            name: self.target.display().to_string(),
            room: NoRoom {
                folder: folder.display().to_string(),
                needed: self
                    .size
                    .unwrap_or(self.length + 1)
                    .saturating_sub(self.length),
                free: space.map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize)),
            },
        }
    }
}

// === impl Journal ===

impl Journal {
    /// Whether bytes of this journal are the first ones of the other's file.
    fn continues(&self, wanted: &Self) -> bool {
        match wanted.expected {
            Some(_) => self.expected == wanted.expected,
            None => self.expected.is_none() && self.from == wanted.from,
        }
    }
}

/// The journal of an earlier process. If it cannot be read, its bytes are dropped.
fn read(path: &Path) -> Option<Journal> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path) -> impl FnOnce(io::Error) -> DownloadError + '_ {
    |source| DownloadError::Write {
        path: path.to_owned(),
        source,
    }
}
