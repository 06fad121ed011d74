//! Lines of log, written many at once: a busy router writes a thousand per second, and each write costs as much as
//! reading a request.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The longest that a line waits. Warnings and errors do not.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// So much is written without waiting.
const MOST_BYTES: usize = 64 << 10;

/// Standard error, with lines that wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// There are lines now, or it is over.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    over: bool,
}

/// Writes one line.
pub(super) struct Writer<'a> {
    buffer: &'a Buffer,
    urgent: bool,
}

// === impl Buffer ===

impl Buffer {
    /// Starts the thread that writes what has waited long enough.
    pub(super) fn start() -> io::Result<Self> {
        let buffer = Self::default();
        let lines = buffer.clone();
        let thread = thread::Builder::new().name("logs".to_owned());
        thread.spawn(move || lines.write_now_and_then())?;
        Ok(buffer)
    }

    /// Writes all that waits, and from now on each line at once.
    pub(super) fn end(&self) {
        let mut lines = self.lock();
        lines.over = true;
        lines.write();
        drop(lines);
        self.0.news.notify_all();
    }

    fn write_now_and_then(&self) {
        let mut lines = self.lock();
        while !lines.over {
            if lines.waiting.is_empty() {
                let news = self.0.news.wait(lines);
                lines = news.unwrap_or_else(PoisonError::into_inner);
            } else {
                let waited = self.0.news.wait_timeout(lines, LONGEST_WAIT);
                lines = waited.unwrap_or_else(PoisonError::into_inner).0;
                lines.write();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Writer<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Writer {
            buffer: self,
            urgent: true,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Writer {
            buffer: self,
            urgent: *meta.level() <= Level::WARN,
        }
    }
}

// === impl Lines ===

impl Lines {
    fn write(&mut self) {
        // There is nowhere to say that the log cannot be written.
        let _ = io::stderr().write_all(&self.waiting);
        self.waiting.clear();
    }
}

// === impl Writer ===

impl Write for Writer<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.buffer.lock();
        let first = lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        if self.urgent || lines.over || lines.waiting.len() >= MOST_BYTES {
            lines.write();
        } else if first {
            self.buffer.0.news.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
