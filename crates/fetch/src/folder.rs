//! The folder that is filled: one fetch at a time, and what an earlier one wrote down.
//!
//! `.inferyard-fetch/` in it is ours: `record.json` says what is wanted and what of it is here,
//! `parts/` has what is not complete, `lock` is held while a fetch runs.

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

/// How often a folder that somebody else fills is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Of this form of the record.
const VERSION: u32 = 1;

/// The folder does not do what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made or written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was asked to stop before it began.
    #[error("interrupted")]
    Interrupted,
}

/// A folder that nobody else fills at the moment.
pub(crate) struct Folder {
    root: PathBuf,
    // Released when it is closed, also by a kill.
    _lock: Option<File>,
}

/// What is wanted, and what of it is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    pub(crate) source: Identity,
    /// What the revision meant when it was first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Entry>,
    /// What an earlier fetch of something else brought; removed at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_over: Vec<Name>,
}

/// A file that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) remote: Remote,
    /// Absent: it is not here yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) here: Option<Here>,
}

/// A file that was verified; one that was changed since has another size or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Here {
    pub(crate) size: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) checksum: Checksum,
}

// === impl Folder ===

impl Folder {
    /// Makes it, and waits until nobody else fills it.
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
                    // Some network file systems have no locks.
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

    /// Where a file that is not complete lies.
    pub(crate) fn part(&self, name: &Name) -> PathBuf {
        suffixed(name.within(&self.parts()), ".part")
    }

    /// Where it stands what that is a part of.
    pub(crate) fn journal(&self, name: &Name) -> PathBuf {
        suffixed(name.within(&self.parts()), ".journal")
    }

    /// What an earlier fetch wrote down. One that cannot be read costs reading the files.
    pub(crate) fn record(&self) -> Result<Option<Record>, FolderError> {
        let path = self.root.join(OURS).join("record.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Read { path, source }),
        };
        match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.version == VERSION => Ok(Some(record)),
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "{} is not understood; it is written anew", path.display());
                Ok(None)
            }
        }
    }

    /// Writes it down; after that it survives the machine.
    pub(crate) fn write(&self, record: &Record) -> Result<(), FolderError> {
        let path = self.root.join(OURS).join("record.json");
        let text = serde_json::to_vec_pretty(record).expect("a record should be JSON");
        replace(&path, &text).map_err(write(&path))
    }

    /// Bytes that can still be written. None: the file system does not tell.
    pub(crate) fn free(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.root).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Removes what another source left.
    pub(crate) fn sweep(&self, left_over: &[Name]) {
        for name in left_over {
            match fs::remove_file(name.within(&self.root)) {
                Ok(()) => {
                    tracing::info!(file = %name, "removed: it belonged to what was here before");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, file = %name, "cannot be removed"),
            }
            // Folders that are empty now; others stay.
            let mut parent = Path::new(name.as_str()).parent();
            while let Some(folder) = parent.filter(|folder| !folder.as_os_str().is_empty()) {
                if fs::remove_dir(self.root.join(folder)).is_err() {
                    break;
                }
                parent = folder.parent();
            }
        }
    }

    /// Removes all parts: everything is complete, or of something else.
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

// === impl Record ===

impl Record {
    /// Of a new list. Of what is here already, that stays valid which is wanted still.
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
    /// Whether the file is the one that was verified.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|file| {
            file.is_file() && file.len() == self.size && modified(&file) == self.modified
        })
    }

    /// A file that was just verified.
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

/// A file with this content, or the one from before: never half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = suffixed(path.to_owned(), ".new");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&fresh, path)
}

/// Renames, and does not return before the name survives the machine.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let parent = to.parent().unwrap_or(Path::new("/"));
    File::open(parent)?.sync_all()
}

/// For `map_err`.
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
