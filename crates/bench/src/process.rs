//! Child processes on cores of their own, and their use of CPU and memory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use tempfile::TempPath;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A child process, which ends at the latest when this is dropped.
pub(crate) struct Process {
    child: Child,
    id: u32,
    /// `None`: its output is discarded.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    log: TempPath,
    /// Its standard input.
    pub(crate) input: ChildStdin,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The resident part that is not backed by files; pages of the binary are, and processes may share them.
    pub(crate) own: u64,
    /// The maximum resident memory so far.
    pub(crate) peak: u64,
}

// === impl Process ===

impl Process {
    /// Starts a command, on this core if one is given; the child inherits the affinity of this thread.
    pub(crate) fn start(command: Command, core: Option<usize>) -> Result<Self> {
        Self::spawn(command, core, Stdio::piped())
    }

    /// Like [`Self::start`], with the output discarded.
    pub(crate) fn start_unheard(command: Command, core: Option<usize>) -> Result<Self> {
        Self::spawn(command, core, Stdio::null())
    }

    fn spawn(mut command: Command, core: Option<usize>, stdout: Stdio) -> Result<Self> {
        // Logs are written as in normal operation, and shown only if the process fails.
        let (log_file, log) = tempfile::NamedTempFile::new()?.into_parts();
        command
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(log_file)
            .kill_on_drop(true);
        let before = sched_getaffinity(None)?;
        if let Some(core) = core {
            pin_to(core)?;
        }
        let spawned = command.spawn();
        sched_setaffinity(None, &before)?;
        let mut child = spawned.with_context(|| format!("starting {command:?}"))?;
        let id = child
            .id()
            .context("a child that just started should have an id")?;
        let lines = child.stdout.take();
        let input = child.stdin.take().context("its input should be a pipe")?;
        Ok(Self {
            child,
            id,
            lines: lines.map(|output| BufReader::new(output).lines()),
            log,
            input,
        })
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The next line of its output.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let lines = self.lines.as_mut().context("nobody listens to it")?;
        let line = lines.next_line().await?;
        line.with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            format!("a process under test ended early:\n{log}")
        })
    }

    /// CPU time so far, over all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.id)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        memory(self.id)
    }

    /// Sends SIGTERM, and waits until the process has ended.
    pub(crate) async fn end(mut self) -> Result<()> {
        if let Some(id) = i32::try_from(self.id).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM)?;
        }
        self.child.wait().await?;
        Ok(())
    }
}

/// The binary under test: the named one, or the one in the folder of this binary.
pub(crate) fn binary(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("inferyard"),
    };
    ensure!(
        path.is_file(),
        "{} is missing: build it with `cargo build --release -p inferyard`, or name it with --binary",
        path.display()
    );
    Ok(path)
}

/// Pins this thread, and the processes that it starts from now on, to one core.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    ensure!(core < CpuSet::MAX_CPU, "there is no core {core}");
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| {
        format!("this machine has no core {core}: choose with --engine-core and --router-core")
    })
}

/// CPU time of a process so far, over all its threads.
pub(crate) fn cpu(id: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let stat = match fs::read_to_string(thread?.path().join("schedstat")) {
            // The thread ended after it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            stat => stat?,
        };
        let on_cpu = stat.split_whitespace().next().unwrap_or_default();
        nanoseconds += on_cpu.parse::<u64>().context("reading schedstat")?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Memory of a process, in KiB.
pub(crate) fn memory(id: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kib = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Ok(Memory {
        resident: kib("VmRSS:").context("the status has no VmRSS")?,
        own: kib("RssAnon:").context("the status has no RssAnon")?,
        peak: kib("VmHWM:").context("the status has no VmHWM")?,
    })
}

/// The child processes of a process, with their command lines.
pub(crate) fn children(parent: u32) -> Result<Vec<(u32, String)>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        // The command's name is in parentheses and may contain anything; state and parent follow it.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        if fields.split(' ').nth(1) == Some(&parent.to_string()) {
            let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            children.push((id, line.replace('\0', " ")));
        }
    }
    Ok(children)
}
