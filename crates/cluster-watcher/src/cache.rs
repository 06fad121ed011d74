//! The cache file: the last state of the cluster, for the next start. It holds hashes of keys, never keys, and only its
//! owner may read it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::object::{Kind, Object};
use crate::store::Store;

/// The version of the file's format; a file of another version is not used.
const VERSION: u32 = 2;
/// The most bytes that are read of a file.
const MAX_BYTES: u64 = 1 << 30;

/// How long a shutdown waits for the last write.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// The cache file and the write in progress.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    /// The last write, which may be running.
    writing: Option<JoinHandle<()>>,
}

/// What a file contains.
pub(crate) struct Cached {
    pub(crate) objects: BTreeMap<Kind, Vec<Object>>,
    /// Time since the file was written.
    pub(crate) age: Duration,
}

#[derive(Deserialize)]
struct Stored {
    version: u32,
    objects: BTreeMap<Kind, Vec<Object>>,
}

#[derive(Serialize)]
struct ToStore<'a> {
    version: u32,
    objects: BTreeMap<Kind, Vec<&'a Object>>,
}

// === impl Cache ===

impl Cache {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            writing: None,
        }
    }

    /// Reads the file; `None` if there is none, or with a warning if it cannot be used.
    pub(crate) fn load(&self) -> Option<Cached> {
        match self.read() {
            Ok(cached) => Some(cached),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "cannot use the cache file of the catalog; starting without it");
                None
            }
        }
    }

    fn read(&self) -> io::Result<Cached> {
        let file = File::open(&self.path)?;
        let written = file.metadata()?.modified()?;
        let stored: Stored = serde_json::from_reader(BufReader::new(file.take(MAX_BYTES)))?;
        if stored.version != VERSION {
            let message = format!("expected version {VERSION}, found {}", stored.version);
            return Err(io::Error::other(message));
        }
        Ok(Cached {
            objects: stored.objects,
            age: SystemTime::now()
                .duration_since(written)
                .unwrap_or_default(),
        })
    }

    /// Starts to write the objects in force, on a thread of its own. A reader finds either the new content or the old
    /// one. Returns false, and does nothing, while the write before is still running.
    pub(crate) fn save(&mut self, store: &Store) -> bool {
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished())
        {
            return false;
        }
        let objects = Kind::ALL.map(|kind| {
            let entries = store.entries(kind);
            (kind, entries.map(|(_, entry)| &entry.object).collect())
        });
        let stored = ToStore {
            version: VERSION,
            objects: objects.into(),
        };
        let text = serde_json::to_vec(&stored).expect("objects should serialize");
        let path = self.path.clone();
        self.writing = Some(spawn_blocking(move || {
            if let Err(error) = write(&path, &text) {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot write the cache file of the catalog");
            }
        }));
        true
    }

    /// Waits until the write in progress has ended, for [`LAST_WRITE`] at most.
    pub(crate) async fn saved(&mut self) {
        if let Some(writing) = self.writing.take()
            && timeout(LAST_WRITE, writing).await.is_err()
        {
            let path = self.path.display();
            tracing::warn!(%path, "the cache file of the catalog was not written before the shutdown");
        }
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // `NamedTempFile` creates the file with mode 0600.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
