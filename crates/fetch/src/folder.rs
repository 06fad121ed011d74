//! The target folder: a lock for one fetch at a time, and the record of an earlier one.
//!
//! The subfolder `.inferyard-fetch/` belongs to this program: `record.json` lists the files and which of them are
//! complete, `parts/` has incomplete ones, `lock` is held while a fetch runs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::checksum::Checksum;
use crate::http::{Context, Stopped};
use crate::list::Remote;
use crate::name::{Name, OURS};
use crate::source::Identity;

/// How often the lock is tried while another fetch holds it.
const LOOK: Duration = Duration::from_secs(1);
/// Version of the record's format.
const VERSION: u32 = 1;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder cannot be created or written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The fetch was cancelled while it waited for the lock.
    #[error("interrupted")]
    Interrupted,
}

/// The target folder, locked by this process.
pub(crate) struct Folder {
    root: PathBuf,
    // The kernel releases the lock when the file is closed, also after a kill.
    _lock: Option<File>,
}

/// The files of a source, and which of them are complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchRecord {
    version: u32,
    pub(crate) source: Identity,
    /// The commit that the revision stood for when it was first resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Entry>,
    /// Files of an earlier source; removed at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_over: Vec<Name>,
}

/// A file of the source.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) remote: Remote,
    /// `None`: it is not complete yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) here: Option<Here>,
}

/// A verified file. A file that was changed since has another size or modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Here {
    pub(crate) size: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) checksum: Checksum,
}

// === impl Folder ===

impl Folder {
    /// Creates the folder, and waits until no other fetch holds its lock.
    pub(crate) async fn open(root: &Path, context: &Context) -> Result<Self, FolderError> {
        let ours = root.join(OURS);
        fs::create_dir_all(&ours).map_err(write(&ours))?;
        let path = ours.join("lock");
        let lock =
            (OpenOptions::new().create(true).append(true).open(&path)).map_err(write(&path))?;
        let mut note = None;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    note.get_or_insert_with(|| {
                        let words = format!(
                            "another process fetches into {}: waiting for it",
                            root.display()
                        );
                        tracing::info!("{words}");
                        context.progress.note("lock", words)
                    });
                }
                Err(TryLockError::Error(error)) => {
                    // Some network file systems support no locks.
                    tracing::warn!(%error, "{} cannot be locked", root.display());
                    return Ok(Self {
                        root: root.to_owned(),
                        _lock: None,
                    });
                }
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = context.stop.cancelled() => return Err(FolderError::Interrupted),
            }
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: Some(lock),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// Path of an incomplete file.
    pub(crate) fn part(&self, name: &Name) -> PathBuf {
        suffixed(name.within(&self.parts()), ".part")
    }

    /// Path of its journal, which says where its bytes are from.
    pub(crate) fn journal(&self, name: &Name) -> PathBuf {
        suffixed(name.within(&self.parts()), ".journal")
    }

    /// The record of an earlier fetch. If it cannot be read, it is ignored, and the files are hashed again.
    pub(crate) fn record(&self) -> Result<Option<FetchRecord>, FolderError> {
        let path = self.root.join(OURS).join("record.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Read { path, source }),
        };
        match serde_json::from_slice::<FetchRecord>(&text) {
            Ok(record) if record.version == VERSION => Ok(Some(record)),
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "{} is not understood; it is written anew", path.display());
                Ok(None)
            }
        }
    }

    /// Writes the record durably.
    pub(crate) fn write(&self, record: &FetchRecord) -> Result<(), FolderError> {
        let path = self.root.join(OURS).join("record.json");
        let text = serde_json::to_vec_pretty(record).expect("a record should be JSON");
        replace(&path, &text).map_err(write(&path))
    }

    /// Free bytes for this user; `None`: the file system does not report them.
    pub(crate) fn free(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.root).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Removes files of an earlier source.
    pub(crate) fn sweep(&self, left_over: &[Name]) {
        for name in left_over {
            match fs::remove_file(name.within(&self.root)) {
                Ok(()) => {
                    tracing::info!(file = %name, "removed: it belonged to what was here before");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, file = %name, "cannot be removed"),
            }
            // Removes folders that are empty now; `remove_dir` fails on the others.
            let mut parent = Path::new(name.as_str()).parent();
            while let Some(folder) = parent.filter(|folder| !folder.as_os_str().is_empty()) {
                if fs::remove_dir(self.root.join(folder)).is_err() {
                    break;
                }
                parent = folder.parent();
            }
        }
    }

    /// Removes all incomplete files, once all files are complete.
    pub(crate) fn remove_parts(&self) -> Result<(), FolderError> {
        let parts = self.parts();
        match fs::remove_dir_all(&parts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write(&parts)(error)),
            _ => Ok(()),
        }
    }

    fn parts(&self) -> PathBuf {
        self.root.join(OURS).join("parts")
    }
}

// === impl FetchRecord ===

impl FetchRecord {
    /// The record of a new list. Files that are complete and still listed stay so.
    pub(crate) fn new(
        source: Identity,
        commit: Option<String>,
        files: Vec<Remote>,
        before: Option<Self>,
    ) -> Self {
        let mut left_over = Vec::new();
        let mut entries: Vec<_> = files
            .into_iter()
            .map(|remote| Entry { remote, here: None })
            .collect();
        if let Some(before) = before {
            left_over = before.left_over;
            for old in before.files {
                let same = |entry: &&mut Entry| entry.remote.name == old.remote.name;
                match entries.iter_mut().find(same) {
                    Some(entry) => {
                        let fits = |here: &Here| entry.remote.checksum == Some(here.checksum);
                        entry.here = old.here.filter(fits);
                    }
                    None if old.here.is_some() => left_over.push(old.remote.name),
                    None => {}
                }
            }
        }
        Self {
            version: VERSION,
            source,
            commit,
            files: entries,
            left_over,
        }
    }
}

// === impl Here ===

impl Here {
    /// Whether the file still is the one that was verified, by size and modification time.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|file| {
            file.is_file() && file.len() == self.size && modified(&file) == self.modified
        })
    }

    /// A file that has just been verified.
    pub(crate) fn of(file: &fs::Metadata, checksum: Checksum) -> Self {
        Self {
            size: file.len(),
            modified: modified(file),
            checksum,
        }
    }
}

fn modified(file: &fs::Metadata) -> (i64, i64) {
    (file.mtime(), file.mtime_nsec())
}

fn suffixed(path: PathBuf, suffix: &str) -> PathBuf {
    let mut path = path.into_os_string();
    path.push(suffix);
    path.into()
}

/// Writes a file atomically: after a crash it has either its new or its old content.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = suffixed(path.to_owned(), ".new");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&fresh, path)
}

/// Renames a file durably: the folder is synced before this returns.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let parent = to.parent().unwrap_or(Path::new("/"));
    File::open(parent)?.sync_all()
}

/// Adds the path to an error, for `map_err`.
pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    |source| FolderError::Write {
        path: path.to_owned(),
        source,
    }
}

impl From<Stopped> for FolderError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}
