//! A Redis server of a test's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Port;

/// A `redis-server` on a port of its own, which ends with this value.
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
        let folder = tempfile::tempdir().expect("there should be room for a folder");
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let port = Port::take();
        let process = launch(port.number(), &arguments, &folder);
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

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        killed.expect("the server should end");
    }

    /// Starts it again on the same port, with what it had on disk.
    pub fn restart(&mut self) {
        self.process = launch(self.port(), &self.arguments, &self.folder);
    }

    /// Gives it a command, and returns what `redis-cli` prints.
    #[expect(
        clippy::must_use_candidate,
        reason = "a command may be given for what it does"
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
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Starts a server and waits until it takes connections.
fn launch(port: u16, arguments: &[String], folder: &TempDir) -> Child {
    let mut process = Command::new("redis-server")
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
