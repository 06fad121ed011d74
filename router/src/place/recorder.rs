//! Writes down what happens to placement, so that it can be decided again elsewhere: a file of JSON lines
//! without content.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inferyard_placement::recording::{Blinding, Entry, Event, Head, VERSION};
use inferyard_placement::{Moment, Weights};
use serde::Serialize;

/// What is written reaches the file at least as often, while anything happens.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Why nothing can be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct RecordError {
    path: PathBuf,
    source: std::io::Error,
}

/// A recording.
pub(crate) struct Recorder {
    path: PathBuf,
    pub(super) blinding: Blinding,
    inner: Mutex<Option<Writing>>,
}

struct Writing {
    file: BufWriter<File>,
    flushed: Moment,
}

// === impl Recorder ===

impl Recorder {
    /// Begins a new file.
    pub(crate) fn create(path: &Path, weights: Weights, seed: u64) -> Result<Self, RecordError> {
        let failed = |source| RecordError {
            path: path.to_owned(),
            source,
        };
        let file = File::create_new(path).map_err(failed)?;
        let mut file = BufWriter::new(file);
        let head = Head {
            inferyard_recording: VERSION,
            weights,
            seed,
        };
        write_line(&mut file, &head).map_err(failed)?;
        let key = getrandom::u64().expect("the system should have random numbers");
        let writing = Writing {
            file,
            flushed: Moment::ZERO,
        };
        Ok(Self {
            path: path.to_owned(),
            blinding: Blinding::new(key),
            inner: Mutex::new(Some(writing)),
        })
    }

    /// Writes one event. Where that fails, the recording ends and the log says so.
    pub(super) fn write(&self, at: Moment, model: &str, event: Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writing) = &mut *inner else { return };
        let entry = Entry::new(at, model, event);
        let mut result = write_line(&mut writing.file, &entry);
        if at > writing.flushed + FLUSH_EVERY {
            writing.flushed = at;
            result = result.and_then(|()| writing.file.flush());
        }
        if let Err(error) = result {
            *inner = None;
            tracing::error!(%error, file = %self.path.display(), "the recording of placements ends");
        }
    }
}

fn write_line(file: &mut BufWriter<File>, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}
