//! One life of a child process: started in its own process group, its output read, its end awaited.

use std::collections::VecDeque;
use std::env;
use std::io::{self, Write};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::part::{self, Part};

/// How many lines of standard error are kept as its last words.
const LAST_WORDS: usize = 5;

/// How long the output of a dead child is read: something that it started may hold the pipe.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// A running child. Dropping it kills it.
pub(super) struct Life {
    child: Child,
    words: JoinHandle<VecDeque<String>>,
    /// The child ends when this does, and the system ends it with this process, however that ends.
    _leash: Option<ChildStdin>,
}

/// How a life ended.
pub(super) struct End {
    pub(super) status: ExitStatus,
    pub(super) last_words: Vec<String>,
}

// === impl Life ===

impl Life {
    /// Starts the child. Each line of its standard output goes to `on_line`; those of standard error
    /// go to ours as `prefix` wants them.
    pub(super) fn start(
        part: &Part,
        prefix: String,
        on_line: impl FnMut(&[u8]) + Send + 'static,
    ) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        // What `up` was told this way is not meant for every child.
        for name in part::SECRETS {
            command.env_remove(name);
        }
        let mut child = command
            .args(part.flags())
            .envs(part.secrets().iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal reaches this process only, which ends the children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        part.set_pid(child.id().unwrap_or(0));
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(each_line(stdout, on_line));
        }
        let stderr = child.stderr.take();
        let words = tokio::spawn(async move {
            let mut last = VecDeque::new();
            if let Some(stderr) = stderr {
                each_line(stderr, |line| {
                    pass_on(&prefix, line);
                    last.truncate(LAST_WORDS - 1);
                    last.push_front(String::from_utf8_lossy(line).into_owned());
                })
                .await;
            }
            last
        });
        Ok(Self {
            _leash: child.stdin.take(),
            child,
            words,
        })
    }

    /// Waits for its end.
    pub(super) async fn end(&mut self) -> io::Result<End> {
        let status = self.child.wait().await?;
        let words = timeout(OUTPUT_GRACE, &mut self.words).await;
        let last_words = match words {
            Ok(Ok(words)) => words.into_iter().rev().collect(),
            _ => Vec::new(),
        };
        Ok(End { status, last_words })
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, with all that it started.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // No id: its end has been awaited, and the number may belong to another process by now.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = pid.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::debug!(%error, "a child ended before the signal");
        }
    }
}

/// Reads lines until the end.
async fn each_line(output: impl AsyncRead + Unpin, mut on_line: impl FnMut(&[u8])) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|length| length > 0)
    {
        on_line(line.trim_ascii_end());
        line.clear();
    }
}

/// Writes a line of a child to our standard error, in one piece. When nobody reads, nothing is lost.
fn pass_on(prefix: &str, line: &[u8]) {
    let line = [prefix.as_bytes(), line, b"\n"].concat();
    io::stderr().write_all(&line).ok();
}
