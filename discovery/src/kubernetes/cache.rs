//! The file that keeps what was known. It holds hashes of keys, never keys, and only its owner reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::known::Known;
use super::object::{Kind, Object};

/// Another layout has another number.
const VERSION: u32 = 1;
/// A file above this size is none of ours.
const MAX_BYTES: u64 = 1 << 30;

/// Where it is.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
}

/// What an earlier life knew.
pub(super) struct Cached {
    pub(super) objects: BTreeMap<Kind, Vec<Object>>,
    pub(super) age: Duration,
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
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What the file says, if there is one that can be read.
    pub(super) fn load(&self) -> Option<Cached> {
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

    /// Writes what is in force; a reader finds the whole of it or what was there before.
    pub(super) fn save(&self, known: &Known) {
        if let Err(error) = self.write(known) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot write the catalog's cache");
        }
    }

    fn write(&self, known: &Known) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let objects = Kind::ALL.map(|kind| {
            let entries = known.entries(kind);
            (kind, entries.map(|(_, entry)| &entry.object).collect())
        });
        let stored = ToStore {
            version: VERSION,
            objects: objects.into(),
        };
        // Made with mode 0600.
        let mut file = NamedTempFile::new_in(folder)?;
        let mut writer = BufWriter::new(file.as_file_mut());
        serde_json::to_writer(&mut writer, &stored)?;
        writer.flush()?;
        drop(writer);
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}
