//! One child process: started in a process group of its own, its output read, its exit awaited.

use std::collections::VecDeque;
use std::env;
use std::io::{self, Write};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{self, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::process::{ManagedProcess, SECRETS};

/// How many of the last lines of standard error are kept, to say why a child exited.
const LAST_LINES: usize = 5;

/// How long the output of a child is read after its exit: a process that it started may hold the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// A running child. Dropping it kills it.
pub(super) struct Child {
    process: process::Child,
    last_lines: JoinHandle<VecDeque<String>>,
    /// The write end of the child's standard input, which is never written to. A child exits when it reads
    /// end-of-file there (`--exit-with-parent`), and the kernel closes it also when this process is killed.
    _stdin_guard: Option<ChildStdin>,
}

/// How a child exited.
pub(super) struct Exit {
    pub(super) status: ExitStatus,
    /// The last lines of its standard error, oldest first.
    pub(super) last_lines: Vec<String>,
}

// === impl Child ===

impl Child {
    /// Starts the child. Each line of its standard output goes to `on_line`; lines of its standard error are
    /// written to ours, after `prefix`.
    pub(super) fn start(
        managed: &ManagedProcess,
        prefix: String,
        on_line: impl FnMut(&[u8]) + Send + 'static,
    ) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        // A child gets only the addresses that it needs, not all that `up` was given.
        for name in SECRETS {
            command.env_remove(name);
        }
        let mut process = command
            .args(managed.flags())
            .envs(managed.secrets().iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal signals its foreground process group. In a group of its own a child does not get
            // it, and is stopped by this process, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        managed.set_pid(process.id().unwrap_or(0));
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(each_line(stdout, on_line));
        }
        let stderr = process.stderr.take();
        let last_lines = tokio::spawn(async move {
            let mut last = VecDeque::new();
            if let Some(stderr) = stderr {
                each_line(stderr, |line| {
                    pass_on(&prefix, line);
                    last.truncate(LAST_LINES - 1);
                    last.push_front(String::from_utf8_lossy(line).into_owned());
                })
                .await;
            }
            last
        });
        Ok(Self {
            _stdin_guard: process.stdin.take(),
            process,
            last_lines,
        })
    }

    /// Waits for its exit.
    pub(super) async fn exit(&mut self) -> io::Result<Exit> {
        let status = self.process.wait().await?;
        let last_lines = match timeout(OUTPUT_GRACE, &mut self.last_lines).await {
            Ok(Ok(lines)) => lines.into_iter().rev().collect(),
            _ => Vec::new(),
        };
        Ok(Exit { status, last_lines })
    }

    /// Sends SIGTERM.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL, to it and all processes that it started.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // There is no id after the exit was awaited: the number may belong to another process by then.
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = pid.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::debug!(%error, "a child exited before it could be signalled");
        }
    }
}

/// Calls `on_line` with each line until end-of-file.
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

/// Writes a line of a child to our standard error in one call, so that lines do not mix. An error means that standard
/// error is closed, and is ignored.
fn pass_on(prefix: &str, line: &[u8]) {
    let line = [prefix.as_bytes(), line, b"\n"].concat();
    io::stderr().write_all(&line).ok();
}
