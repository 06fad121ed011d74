//! Servers for the tests of this process, which end with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A database of its own on the one server of this process.
pub(super) fn database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| Server::start(&[]));
    let database = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("redis+unix://{}?db={database}", server.socket())
}

pub(super) struct Server {
    _child: Child,
    folder: TempDir,
}

// === impl Server ===

impl Server {
    /// A shell holds it that ends it as soon as its own input ends, which it does with this process.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "\"$@\" & server=$!; cat >/dev/null <&3; kill $server; wait $server";
        let script = format!("exec 3<&0; {script}");
        let socket = folder.path().join("s").to_str().unwrap().to_owned();
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh", "redis-server", "--save", ""])
            .args(["--appendonly", "no", "--databases", "4096"])
            .args(["--unixsocket", &socket, "--port", "0"])
            .arg("--dir")
            .arg(folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server should be installed");
        let output = child.stdout.take().unwrap();
        let lines = BufReader::new(output).lines();
        let mut ready = lines.map_while(Result::ok);
        let is_ready = ready.any(|line| line.contains("accept connections"));
        assert!(is_ready, "redis-server did not start");
        Self {
            _child: child,
            folder,
        }
    }

    fn socket(&self) -> String {
        self.folder.path().join("s").to_str().unwrap().to_owned()
    }
}
