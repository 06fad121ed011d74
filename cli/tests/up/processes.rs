//! Real processes of the binary under test: started, read, asked to end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// No step of a test takes nearly as long; it ends a test that would wait for ever.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// A process and what it prints.
pub(crate) struct Process {
    child: Child,
    /// Where it leaves what it cannot tidy up when it is killed.
    _runtime: TempDir,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// Lines as they come. They end when no process is left that could write one.
pub(crate) struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
}

// === impl Process ===

impl Process {
    /// Starts the binary. Every descendant inherits descriptor 9, a copy of standard error: the lines
    /// of standard error end when the last of them is gone, whoever started it.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let runtime = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("sh")
            .args(["-c", "exec 9>&2; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_inferyard"))
            .args(arguments)
            .env("XDG_RUNTIME_DIR", runtime.path())
            .env("TMPDIR", runtime.path())
            .env_remove("RUST_LOG")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary should start");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        Self {
            child,
            _runtime: runtime,
            stdout,
            stderr,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits until it and all that it started are gone.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.stderr.end();
        self.child.wait().expect("a child can be awaited")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends a signal to any process.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process has an id"), signal).expect("the process is there");
}

// === impl Lines ===

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if line.map(|line| sender.send(line)).is_err() {
                    return;
                }
            }
        });
        Self {
            lines,
            seen: Vec::new(),
        }
    }

    /// The next line that contains this text.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("{error}: no {text:?} in {:#?}", self.seen),
            }
        }
    }

    /// All lines, once the end has come.
    pub(crate) fn end(&mut self) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.seen.join("\n"),
                Err(RecvTimeoutError::Timeout) => panic!("no end after {:#?}", self.seen),
            }
        }
    }
}

/// An `up` that is ready.
pub(crate) struct Up {
    pub(crate) process: Process,
    /// The line that it printed.
    pub(crate) ready: Value,
}

// === impl Up ===

impl Up {
    pub(crate) fn start(manifest: &str, state: &Path, more: &[&str]) -> Self {
        let state = state.to_str().expect("a UTF-8 path");
        let mut arguments = vec![
            "up",
            "-f",
            manifest,
            "--listen",
            "127.0.0.1:0",
            "--output",
            "json",
            "--state",
            state,
        ];
        arguments.extend(more);
        let mut process = Process::start(&arguments);
        let Ok(line) = process.stdout.lines.recv_timeout(PATIENCE) else {
            panic!("it is not ready: {}", process.stderr.end());
        };
        let ready = serde_json::from_str(&line).expect("the line should be JSON");
        Self { process, ready }
    }

    /// Where the API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let url = self.ready["base_url"].as_str().expect("a URL");
        let address = url
            .strip_prefix("http://")
            .and_then(|url| url.strip_suffix("/v1"));
        address
            .expect("base_url ends with /v1")
            .parse()
            .expect("an address")
    }

    pub(crate) fn worker(&self, index: usize) -> &Value {
        &self.ready["workers"][index]
    }

    pub(crate) fn pid(value: &Value) -> u32 {
        u32::try_from(value.as_u64().expect("a process id")).expect("a process id")
    }

    /// The status of a GET.
    pub(crate) fn get(&self, path: &str, key: Option<&str>) -> u16 {
        get(self.address(), path, key).expect("the router should answer")
    }
}

/// The status of a GET; `None` where nobody listens.
pub(crate) fn get(address: SocketAddr, path: &str, key: Option<&str>) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let authorization = key.map_or(String::new(), |key| {
        format!("authorization: Bearer {key}\r\n")
    });
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: test\r\n{authorization}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Repeats a question until it is answered.
pub(crate) fn until<T>(mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "no answer came");
        thread::yield_now();
    }
}

/// The state of a worker, as `inferyard watch` prints it.
pub(crate) fn watch_once(address: &str) -> Option<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_inferyard"))
        .args(["watch", address, "--once"])
        .output()
        .expect("the binary should start");
    serde_json::from_slice(&output.stdout).ok()
}
