//! A PostgreSQL server of a test's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::installed::program;

/// A PostgreSQL server on a Unix socket, which is stopped when this value is dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
}

// === impl Postgres ===

impl Postgres {
    /// Makes a database cluster in a temporary folder, and starts the server.
    ///
    /// # Panics
    ///
    /// As all of these functions do: where the server does not do what a test needs.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("there should be room for a folder");
        if let Some(user) = other_user() {
            chown(folder.path(), Some(user), None).expect("root should give the folder away");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder.path(), mode).expect("root should open the folder");
        }
        let mut postgres = Self { folder };
        let mut initdb = postgres.command("initdb");
        initdb.args(["--username=ledger", "--auth=trust", "--no-sync"]);
        initdb.args(["--encoding=UTF8", "--locale=C"]);
        run(initdb);
        postgres.restart();
        postgres
    }

    /// The address of its database, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://ledger@localhost/postgres?host={folder}")
    }

    /// Stops it, and with it all connections.
    pub fn stop(&mut self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "--mode=fast", "--wait", "--timeout=300"]);
        run(stop);
    }

    /// Starts it after [`stop`](Self::stop), and waits until it accepts connections.
    pub fn restart(&mut self) {
        let settings = format!(
            "-c listen_addresses= -c fsync=off -c max_connections=40 -k {}",
            self.folder.path().display()
        );
        let mut start = self.command("pg_ctl");
        start.args(["start", "--wait", "--timeout=300", "--options", &settings]);
        start.arg("--log").arg(self.folder.path().join("data/log"));
        run(start);
    }

    /// Starts it as a standby without a primary: it answers queries and refuses writes.
    pub fn restart_as_standby(&mut self) {
        let signal = self.folder.path().join("data/standby.signal");
        fs::write(signal, "").expect("there should be room for a file");
        self.restart();
    }

    /// A program of PostgreSQL on its data folder, as a user that PostgreSQL accepts: it refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let path = program(name).unwrap_or_else(|| PathBuf::from(name));
        let mut command = if other_user().is_some() {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                "--",
            ]);
            command.arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path());
        command.arg("--pgdata").arg(self.folder.path().join("data"));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "--mode=immediate"]);
        // A test may have stopped it already.
        let _gone = quiet(&mut stop).status();
    }
}

fn run(mut command: Command) {
    let done = quiet(&mut command).status();
    let done = done.expect("PostgreSQL should be installed");
    assert!(done.success(), "{command:?}: {done}");
}

/// The server inherits these streams, and would hold a pipe of the test open.
fn quiet(command: &mut Command) -> &mut Command {
    let command = command.stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

/// The user of PostgreSQL's package, where this is root.
fn other_user() -> Option<u32> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"])? == 0 {
        Some(id(&["-u", "postgres"]).expect("PostgreSQL's package should bring its user"))
    } else {
        None
    }
}
