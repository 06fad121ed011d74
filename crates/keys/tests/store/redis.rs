//! Private Redis servers that end with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use inferyard_redis_link::Address;
use inferyard_test_ports::Port;
use tempfile::TempDir;

/// A server on a free port of this machine, which keeps nothing on disk.
pub(crate) struct Redis {
    port: Port,
    arguments: Vec<String>,
    folder: TempDir,
    process: Child,
}

impl Redis {
    /// A server by itself.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// A server with further settings.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
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

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn address(&self) -> Address {
        self.url().parse().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same port, empty.
    pub(crate) fn restart(&mut self) {
        self.process = launch(self.port(), &self.arguments, &self.folder);
    }

    /// What `redis-cli` prints.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port().to_string()])
            .args(words)
            .output()
            .unwrap();
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
    let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = log.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
    assert!(ready, "the Redis server ended");
    // Nobody reads the rest; a thread keeps the pipe from filling.
    std::thread::spawn(move || log.for_each(drop));
    process
}
