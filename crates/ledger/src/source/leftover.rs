//! A file with the entries that could not be stored before the end, for the next ledger.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use inferyard_proto::outbox::Entry;
use prost::Message as _;

/// What the file begins with. The last byte is the version of its form.
const HEADER: [u8; 8] = *b"iyusage\x01";

/// Entries that an earlier ledger left, and the place for those of this one.
pub(super) struct Leftover {
    path: Option<PathBuf>,
    /// Not taken yet.
    waiting: VecDeque<Entry>,
    /// Whether entries of the file are waiting, or taken and not stored yet.
    is_used: bool,
}

/// How an entry is written. Numbers of fields are never used again for something else.
#[derive(Clone, PartialEq, prost::Message)]
struct LeftoverRecord {
    #[prost(bytes = "bytes", tag = "1")]
    event: Bytes,
    #[prost(uint32, tag = "2")]
    part: u32,
    #[prost(bytes = "bytes", tag = "3")]
    billed: Bytes,
}

/// The file of an earlier ledger cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read {}, where an earlier process left usage events that it could not store; move it away to \
     start without them",
    path.display()
)]
pub struct LeftoverError {
    path: PathBuf,
    source: io::Error,
}

// === impl Leftover ===

impl Leftover {
    /// Reads the file, if there is one.
    pub(super) fn open(path: Option<PathBuf>) -> Result<Self, LeftoverError> {
        let waiting: VecDeque<_> = match &path {
            None => VecDeque::new(),
            Some(path) => read(path).map_err(|source| LeftoverError {
                path: path.clone(),
                source,
            })?,
        };
        if !waiting.is_empty() {
            let entries = waiting.len();
            tracing::info!(
                entries,
                "usage events of an earlier process are stored first"
            );
        }
        Ok(Self {
            path,
            is_used: !waiting.is_empty(),
            waiting,
        })
    }

    /// Up to `most` entries that were not taken yet.
    pub(super) fn take(&mut self, most: usize) -> Vec<Entry> {
        let most = most.min(self.waiting.len());
        self.waiting.drain(..most).collect()
    }

    /// What was taken is stored. The file goes with its last entry; until then a crash leaves it whole,
    /// and what it repeats counts once.
    pub(super) fn acknowledge(&mut self) {
        if !self.is_used || !self.waiting.is_empty() {
            return;
        }
        self.is_used = false;
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, path = %path.display(), "cannot delete a file of usage events that are stored");
        }
    }

    /// Writes the file anew with these entries; returns how many are lost.
    pub(super) fn keep(&self, entries: &[Entry]) -> usize {
        if entries.is_empty() {
            return 0;
        }
        let Some(path) = &self.path else {
            return entries.len();
        };
        match write(path, entries) {
            Ok(()) => {
                tracing::warn!(
                    entries = entries.len(),
                    path = %path.display(),
                    "usage events could not be stored; they are in a file, which the next start reads"
                );
                0
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "cannot write usage events to a file");
                entries.len()
            }
        }
    }
}

fn read(path: &Path) -> io::Result<VecDeque<Entry>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Bytes::from(bytes);
    if !bytes.starts_with(&HEADER) {
        let message = "it does not begin as a file of this version does";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    bytes.advance(HEADER.len());
    let mut entries = VecDeque::new();
    while !bytes.is_empty() {
        let record = LeftoverRecord::decode_length_delimited(&mut bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        entries.push_back(Entry {
            event: record.event,
            part: record.part,
            billed: record.billed,
        });
    }
    Ok(entries)
}

/// The file has its name only when it is whole and on disk.
fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut bytes = HEADER.to_vec();
    for entry in entries {
        let record = LeftoverRecord {
            event: entry.event.clone(),
            part: entry.part,
            billed: entry.billed.clone(),
        };
        bytes.extend(record.encode_length_delimited_to_vec());
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let written = write_whole(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
        return written;
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
