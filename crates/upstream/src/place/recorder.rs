//! Records placement events to a file of JSON lines without content, for replay.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use std::thread;
use std::time::{Duration, Instant};

use inferyard_listen::Throttle;
use inferyard_placement::recording::{Blinding, Entry, Event, Head, VERSION};
use inferyard_placement::{Moment, Weights};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longest delay before a written event reaches the file.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Events queued for the writer thread, about 2.5 MB; further ones are dropped and counted.
const MOST_WAITING: usize = 8192;
/// How long shutdown waits for queued events to be written.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// The recording cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct RecordError {
    path: PathBuf,
    source: io::Error,
}

/// A recording, written by a thread of its own: events are recorded under the lock of an endpoint pool, on the
/// threads that serve requests, and the disk may block for seconds.
pub(crate) struct Recorder {
    path: PathBuf,
    pub(super) blinding: Blinding,
    writer: Mutex<Option<Writer>>,
    dropped: AtomicU64,
    warnings: Throttle,
}

/// The channel to the writer thread.
struct Writer {
    entries: SyncSender<Entry>,
    /// Resolves when the thread has written everything.
    written: oneshot::Receiver<()>,
}

// === impl Recorder ===

impl Recorder {
    /// Creates a new file.
    pub(crate) fn create(path: &Path, weights: Weights, seed: u64) -> Result<Self, RecordError> {
        let failed = |source| RecordError {
            path: path.to_owned(),
            source,
        };
        let file = File::create_new(path).map_err(failed)?;
        let head = Head {
            inferyard_recording: VERSION,
            weights,
            seed,
        };
        Self::write_to(file, path, &head).map_err(failed)
    }

    fn write_to(file: impl Write + Send + 'static, path: &Path, head: &Head) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        write_line(&mut file, head)?;
        let key = getrandom::u64().expect("the system should have random numbers");
        let (entries, waiting) = sync_channel(MOST_WAITING);
        let (tell, written) = oneshot::channel();
        let shown = path.display().to_string();
        let work = move || {
            if let Err(error) = write_all(&mut file, &waiting) {
                tracing::error!(%error, file = shown, "the recording of placements ends");
            }
            // The receiver is gone if shutdown did not wait for the recording.
            let _ = tell.send(());
        };
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(work)?;
        Ok(Self {
            path: path.to_owned(),
            blinding: Blinding::new(key),
            writer: Mutex::new(Some(Writer { entries, written })),
            dropped: AtomicU64::new(0),
            warnings: Throttle::new(1, Duration::from_mins(1)),
        })
    }

    /// Records one event without blocking. If the channel is full, the event is dropped and logged.
    pub(super) fn write(&self, at: Moment, model: &str, event: Event) {
        let writer = self.writer.lock();
        let Some(writer) = &*writer else { return };
        match writer.entries.try_send(Entry::new(at, model, event)) {
            // The thread has ended after an error, which it logged.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if self.warnings.admit().is_some() {
                    let file = self.path.display();
                    tracing::warn!(
                        %file,
                        dropped,
                        "the disk is too slow for the recording of placements, which has gaps now"
                    );
                }
            }
        }
    }

    /// Ends the recording, and waits up to [`LAST_WRITES`] until it is written.
    pub(super) async fn end(&self) {
        let writer = self.writer.lock().take();
        let Some(Writer { entries, written }) = writer else {
            return;
        };
        drop(entries);
        let file = self.path.display();
        if timeout(LAST_WRITES, written).await.is_err() {
            tracing::warn!(%file, "the end of the recording of placements could not be written");
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(%file, dropped, "the recording of placements lacks events");
        }
    }
}

/// Writes entries until the channel is closed.
fn write_all(file: &mut BufWriter<impl Write>, entries: &Receiver<Entry>) -> io::Result<()> {
    let mut flush_at = Instant::now() + FLUSH_EVERY;
    loop {
        match entries.recv_timeout(flush_at.saturating_duration_since(Instant::now())) {
            Ok(entry) => write_line(file, &entry)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return file.flush(),
        }
        if flush_at <= Instant::now() {
            file.flush()?;
            flush_at = Instant::now() + FLUSH_EVERY;
        }
    }
}

fn write_line(file: &mut BufWriter<impl Write>, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests;
