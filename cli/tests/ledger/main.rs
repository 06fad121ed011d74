//! `inferyard ledger`, `usage` and `audit` as processes, on real Redis and PostgreSQL.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what only tests call"
)]

#[path = "../../../crates/ledger/tests/ledger/connections.rs"]
mod connections;
#[path = "../../../crates/ledger/tests/ledger/events.rs"]
#[expect(dead_code, reason = "the ledger's own tests need more of it")]
mod events;

mod audit;
mod killed;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// A process of the binary that is killed with the test.
struct Process(Child);

/// Runs the binary to its end.
fn inferyard(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inferyard"))
        .args(arguments)
        .env_remove("INFERYARD_STORE")
        .output()
        .unwrap()
}

// === impl Process ===

impl Process {
    /// Starts the binary and waits for its first line.
    fn start(arguments: &[&str]) -> (Self, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_inferyard"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        (Self(child), line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
