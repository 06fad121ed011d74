//! Buffered log lines, written in batches by a thread of their own: a busy router writes a thousand per second, each
//! write costs as much as reading a request, and the reader of standard error may stop reading.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Longest time that a line waits in the buffer. Warnings and errors do not wait.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// Size of the buffer, in bytes, from which on it is written at once.
const MOST_BYTES: usize = 64 << 10;
/// Most bytes that wait while standard error is blocked; further lines are dropped and counted.
const MOST_WAITING: usize = 4 << 20;
/// How long the exit of the process waits for standard error.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Standard error with a buffer in front of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// Wakes the thread: there are lines, or the process is exiting.
    news: Condvar,
    /// Signals that everything is written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    /// Number of lines that were dropped.
    dropped: u64,
    /// Whether the lines are to be written at once.
    urgent: bool,
    /// Whether the thread is writing a batch.
    writing: bool,
    over: bool,
}

/// Writes one line.
pub(super) struct Writer<'a> {
    buffer: &'a Buffer,
    urgent: bool,
}

// === impl Buffer ===

impl Buffer {
    /// Starts the thread that writes the buffer.
    pub(super) fn start() -> io::Result<Self> {
        Self::to(io::stderr())
    }

    fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        let buffer = Self::default();
        let lines = buffer.clone();
        let thread = thread::Builder::new().name("logs".to_owned());
        thread.spawn(move || lines.write_to(output))?;
        Ok(buffer)
    }

    /// Writes all waiting lines, within a second.
    pub(super) fn end(&self) {
        let mut lines = self.lock();
        lines.over = true;
        self.0.news.notify_all();
        let unwritten = |lines: &mut Lines| lines.writing || !lines.waiting.is_empty();
        // If the time is over, lines are lost: there is no other place to report that the log cannot be written.
        self.0
            .written
            .wait_while_for(&mut lines, unwritten, LAST_WRITES);
    }

    fn write_to(&self, mut output: impl Write) {
        let mut lines = self.lock();
        loop {
            if lines.waiting.is_empty() {
                if lines.over {
                    return;
                }
                self.0.news.wait(&mut lines);
                continue;
            }
            let early = |lines: &mut Lines| !lines.urgent && !lines.over;
            self.0.news.wait_while_for(&mut lines, early, LONGEST_WAIT);
            let batch = lines.take();
            // Unlock before the write: a slow standard error must not block the threads that log.
            drop(lines);
            let _ = output.write_all(&batch).and_then(|()| output.flush());
            lines = self.lock();
            lines.writing = false;
            self.0.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock()
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
    /// Takes all waiting lines.
    fn take(&mut self) -> Vec<u8> {
        self.writing = true;
        self.urgent = false;
        let mut batch = std::mem::take(&mut self.waiting);
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let line = format!(
                "{{\"level\":\"WARN\",\"message\":\"standard error took nothing, so that lines of log were \
                 dropped\",\"dropped\":{dropped}}}\n"
            );
            batch.extend_from_slice(line.as_bytes());
        }
        batch
    }
}

// === impl Writer ===

impl Write for Writer<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.buffer.lock();
        if lines.over {
            drop(lines);
            return io::stderr().write(line);
        }
        if lines.waiting.len() + line.len() > MOST_WAITING {
            lines.dropped += 1;
            return Ok(line.len());
        }
        let first = lines.waiting.is_empty();
        lines.waiting.extend_from_slice(line);
        let urgent = self.urgent || lines.waiting.len() >= MOST_BYTES;
        let news = first || (urgent && !lines.urgent);
        lines.urgent |= urgent;
        drop(lines);
        if news {
            self.buffer.0.news.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn nobody_waits_for_an_output_that_takes_nothing() {
        // The pipe has no reader yet: a write beyond its capacity blocks.
        let (mut reader, pipe) = io::pipe().unwrap();
        let buffer = Buffer::to(pipe).unwrap();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..10_000 {
            let written = buffer.make_writer().write(&line);
            assert_eq!(written.unwrap(), line.len());
        }
        buffer.end();
        drop(buffer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let dropped = text.lines().filter(|line| line.contains("\"dropped\":"));
        assert_eq!(dropped.count(), 1);
    }

    #[test]
    fn the_end_writes_all() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let buffer = Buffer::to(pipe).unwrap();
        for _ in 0..10 {
            buffer.make_writer().write_all(b"line\n").unwrap();
        }
        buffer.end();
        drop(buffer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "line\n".repeat(10));
    }
}
