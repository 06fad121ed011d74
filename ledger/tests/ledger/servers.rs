//! Private instances of Redis and PostgreSQL, which end with the test that started them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inferyard_ledger::Store;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// No server takes longer to start on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(5);

/// A Redis server on a Unix socket. Every write is on disk before it is answered, so that a killed one
/// comes back as it was.
pub(crate) struct Redis {
    folder: TempDir,
    process: Child,
}

/// A PostgreSQL server on a Unix socket.
pub(crate) struct Postgres {
    folder: TempDir,
    process: Option<Child>,
}

/// Waits until something is so, and says what was waited for where it never is.
pub(crate) async fn eventually<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = is().await {
                return value;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: never came"))
}

// === impl Redis ===

impl Redis {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Self::spawn(folder.path());
        let redis = Self { folder, process };
        redis.connect().await;
        redis
    }

    fn spawn(folder: &Path) -> Child {
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--unixsocket", "redis.sock"])
            .arg("--dir")
            .arg(folder)
            .current_dir(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server should be installed")
    }

    pub(crate) fn url(&self) -> String {
        let socket = self.folder.path().join("redis.sock");
        format!("redis+unix://{}", socket.display())
    }

    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        // The library's own limit is half a second, which a busy machine exceeds.
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        eventually("an answer of Redis", async || {
            let connect = client.get_multiplexed_async_connection_with_config(&config);
            let mut connection = connect.await.ok()?;
            let pong: redis::RedisResult<String> =
                redis::cmd("PING").query_async(&mut connection).await;
            pong.ok().map(|_| connection)
        })
        .await
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on what it had on disk.
    pub(crate) async fn restart(&mut self) {
        self.process = Self::spawn(self.folder.path());
        self.connect().await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// === impl Postgres ===

impl Postgres {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some(user) = other_user() {
            chown(folder.path(), Some(user), None).unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let data = folder.path().join("data");
        let made = program("initdb", folder.path())
            .args([
                "--username=ledger",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
            ])
            .args(["--locale=C", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb: {made}");
        let mut postgres = Self {
            folder,
            process: None,
        };
        postgres.restart().await;
        postgres
    }

    pub(crate) fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://ledger@localhost/postgres?host={folder}")
    }

    /// Stops it; whoever is connected is cut off.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = process.id().to_string();
            let _ = Command::new("kill").args(["-INT", &id]).status();
            let _ = process.wait();
        }
    }

    /// Starts it as the standby of nobody: it answers questions, and takes nothing.
    pub(crate) async fn restart_as_standby(&mut self) {
        fs::write(self.folder.path().join("data/standby.signal"), "").unwrap();
        self.restart().await;
    }

    pub(crate) async fn restart(&mut self) {
        let process = program("postgres", self.folder.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=40",
            ])
            .arg("-k")
            .arg(self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let url = self.url();
        eventually("an answer of PostgreSQL", async || {
            Store::open_existing(&url).await.ok()
        })
        .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program of PostgreSQL, as a user that it accepts: it refuses to run as root.
fn program(name: &str, folder: &Path) -> Command {
    let path = installed(name);
    let mut command = match other_user() {
        Some(_) => {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                    "--",
                ])
                .arg(path);
            command
        }
        None => Command::new(path),
    };
    command.current_dir(folder);
    command
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

/// Debian keeps the server's programs out of the path, one folder for each version.
fn installed(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| {
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    folders.sort();
    folders
        .into_iter()
        .rev()
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}
