//! A Redis server of a test's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Port;

/// Starts a server that a shell stops as soon as the shell's own input ends. The kernel closes that input when this
/// process exits, however it does.
const STOPPED_WITH_INPUT: &str =
    "exec 3<&0; \"$@\" & server=$!; cat >/dev/null <&3; kill $server; wait $server";

/// A `redis-server` on a port of its own, which is killed when this value is dropped.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    arguments: Vec<String>,
    folder: TempDir,
    process: Child,
}

// === impl Redis ===

impl Redis {
    /// A server that keeps nothing on disk.
    ///
    /// # Panics
    ///
    /// As all of these functions do: where the server does not do what a test needs.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server that has each write on disk before it answers, and has it again after a kill.
    #[must_use]
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with further settings.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        Self::launched(Command::new("redis-server"), arguments)
    }

    /// A server for a `static`, which is never dropped: it ends with this process. It cannot be killed or restarted
    /// before that.
    #[must_use]
    pub fn until_exit(arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", STOPPED_WITH_INPUT, "sh", "redis-server"]);
        shell.stdin(Stdio::piped());
        Self::launched(shell, arguments)
    }

    fn launched(command: Command, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there should be room for a folder");
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let port = Port::take();
        let process = launch(command, port.number(), &arguments, &folder);
        Self {
            port,
            arguments,
            folder,
            process,
        }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its address, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Its process, for signals.
    #[must_use]
    pub fn process(&self) -> &Child {
        &self.process
    }

    /// Kills it with SIGKILL, as a crash would end it.
    pub fn kill(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        killed.expect("the server should end");
    }

    /// Starts it again on the same port, with what it had on disk.
    pub fn restart(&mut self) {
        let command = Command::new("redis-server");
        self.process = launch(command, self.port(), &self.arguments, &self.folder);
    }

    /// Sends it a command with `redis-cli`, and returns what that prints.
    #[expect(
        clippy::must_use_candidate,
        reason = "a command may be sent for its effect alone"
    )]
    pub fn command(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port().to_string()])
            .args(words)
            .output()
            .expect("redis-cli should be installed");
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The child of `until_exit` is a shell, which must not be killed: it stops the server when its input is closed.
        match self.process.stdin.take() {
            Some(input) => drop(input),
            None => drop(self.process.kill()),
        }
        let _gone = self.process.wait();
    }
}

/// Starts a server and waits until it accepts connections.
fn launch(mut command: Command, port: u16, arguments: &[String], folder: &TempDir) -> Child {
    let mut process = command
        .args(["--port", &port.to_string()])
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server should be installed");
    let output = process.stdout.take().expect("its output is a pipe");
    let mut log = BufReader::new(output).lines();
    let ready = log.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
    assert!(ready, "the Redis server ended");
    // A thread reads on, or the server would wait for room in the pipe.
    std::thread::spawn(move || log.for_each(drop));
    process
}
