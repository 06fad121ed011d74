//! The file that keeps what was known. It holds hashes of keys, never keys, and only its owner reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::known::Known;
use crate::object::{Kind, Object};

/// Another layout has another number.
const VERSION: u32 = 2;
/// A file above this size is none of ours.
const MAX_BYTES: u64 = 1 << 30;

/// How long the end waits for the disk.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Where it is.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    /// The write that was begun last.
    writing: Option<JoinHandle<()>>,
}

/// What an earlier life knew.
pub(crate) struct Cached {
    pub(crate) objects: BTreeMap<Kind, Vec<Object>>,
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

    /// What the file says, if there is one that can be read.
    pub(crate) fn load(&self) -> Option<Cached> {
        match self.read() {
            Ok(cached) => Some(cached),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "cannot use the catalog's cache, and goes without");
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

    /// Begins to write what is in force, on a thread of its own; a reader finds the whole of it or what was there
    /// before. False: the write before it still waits for the disk.
    pub(crate) fn save(&mut self, known: &Known) -> bool {
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished())
        {
            return false;
        }
        let objects = Kind::ALL.map(|kind| {
            let entries = known.entries(kind);
            (kind, entries.map(|(_, entry)| &entry.object).collect())
        });
        let stored = ToStore {
            version: VERSION,
            objects: objects.into(),
        };
        let text = serde_json::to_vec(&stored).expect("what is known should serialize");
        let path = self.path.clone();
        self.writing = Some(spawn_blocking(move || {
            if let Err(error) = write(&path, &text) {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot write the catalog's cache");
            }
        }));
        true
    }

    /// Waits for a time until what was begun is written.
    pub(crate) async fn saved(&mut self) {
        if let Some(writing) = self.writing.take()
            && timeout(LAST_WRITE, writing).await.is_err()
        {
            let path = self.path.display();
            tracing::warn!(%path, "the catalog's cache could not be written at the end");
        }
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Made with mode 0600.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
