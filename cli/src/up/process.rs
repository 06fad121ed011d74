//! A managed process: its name, its command line, and the state that survives a restart.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::event::Event;
use crate::router::Addresses;

/// Environment variables for addresses with passwords: other users of the machine can read command lines.
pub(super) const REDIS: &str = "INFERYARD_REDIS";
pub(super) const POSTGRES: &str = "INFERYARD_POSTGRES";
/// The ledger's database.
pub(super) const STORE: &str = "INFERYARD_STORE";
const KEY_STORE: &str = "INFERYARD_KEY_STORE";

/// All of them.
pub(super) const SECRETS: [&str; 4] = [REDIS, POSTGRES, STORE, KEY_STORE];

/// A process that the supervisor keeps running.
pub(super) struct ManagedProcess {
    /// For messages: `router`, `router 2`, `ledger`, `worker demo-0`.
    pub(super) name: String,
    role: Role,
    command: CommandLine,
    started_once: AtomicBool,
    pid: AtomicU32,
}

/// Arguments and secrets that a process is started with.
#[derive(Default)]
pub(super) struct CommandLine {
    pub(super) flags: Vec<OsString>,
    /// Some of [`SECRETS`].
    pub(super) secrets: Vec<(&'static str, OsString)>,
}

/// How a process reports that it has started.
pub(super) enum Role {
    /// By the phase `READY` of its gRPC `Watch` stream.
    Worker,
    /// By a line of JSON on standard output with its addresses.
    Router {
        /// Its index among the routers.
        index: usize,
        listen: RouterListen,
    },
    /// By a line of JSON on standard output.
    Ledger,
}

/// Where a router is asked to listen, and where it does. A port that the system picked at the first start is used
/// again at every restart.
pub(super) struct RouterListen {
    asked: Addresses,
    bound: OnceLock<Addresses>,
}

// === impl ManagedProcess ===

impl ManagedProcess {
    pub(super) fn new(name: String, role: Role, command: CommandLine) -> Self {
        Self {
            name,
            role,
            command,
            started_once: AtomicBool::new(false),
            pid: AtomicU32::new(0),
        }
    }

    /// The arguments of its next start.
    pub(super) fn flags(&self) -> Vec<OsString> {
        let mut flags = self.command.flags.clone();
        if let Role::Router { listen, .. } = &self.role {
            flags.extend(listen.flags());
        }
        flags
    }

    /// The environment variables of its next start, in addition to those that it inherits.
    pub(super) fn secrets(&self) -> &[(&'static str, OsString)] {
        &self.command.secrets
    }

    /// Notes that it has started successfully. From now on an exit is a crash, which is followed by a restart, and
    /// not a mistake in its settings.
    pub(super) fn mark_started_once(&self) {
        self.started_once.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_started_once(&self) -> bool {
        self.started_once.load(Ordering::Relaxed)
    }

    /// The id of the running child; 0 while there is none.
    pub(super) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    pub(super) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Reads a line of its standard output; `None`: the line is no report.
    pub(super) fn read_stdout(&self, line: &[u8]) -> Option<Event> {
        let event = match &self.role {
            Role::Worker => return None,
            Role::Router { index, listen } => {
                let addresses = serde_json::from_slice(line).ok()?;
                Event::RouterBound(*index, *listen.bound.get_or_init(|| addresses))
            }
            Role::Ledger => {
                serde_json::from_slice::<serde::de::IgnoredAny>(line).ok()?;
                Event::LedgerBound
            }
        };
        self.mark_started_once();
        Some(event)
    }
}

// === impl RouterListen ===

impl RouterListen {
    pub(super) fn new(address: SocketAddr, metrics_address: SocketAddr) -> Self {
        Self {
            asked: Addresses {
                address,
                metrics_address: Some(metrics_address),
            },
            bound: OnceLock::new(),
        }
    }

    fn flags(&self) -> Vec<OsString> {
        let addresses = self.bound.get().unwrap_or(&self.asked);
        let mut flags = vec!["--listen".into(), addresses.address.to_string().into()];
        if let Some(metrics) = addresses.metrics_address {
            flags.extend(["--metrics-listen".into(), metrics.to_string().into()]);
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_first_start_stays() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let role = Role::Router {
            index: 1,
            listen: RouterListen::new(any, any),
        };
        let command = CommandLine {
            flags: vec!["router".into()],
            secrets: Vec::new(),
        };
        let process = ManagedProcess::new("router 2".into(), role, command);
        assert!(process.read_stdout(b"not a line of addresses").is_none());
        assert!(!process.has_started_once());
        let line = br#"{"address":"127.0.0.1:4001","metrics_address":"127.0.0.1:4002"}"#;
        assert!(matches!(
            process.read_stdout(line),
            Some(Event::RouterBound(1, _))
        ));
        assert!(process.has_started_once());
        let expected = [
            "router",
            "--listen",
            "127.0.0.1:4001",
            "--metrics-listen",
            "127.0.0.1:4002",
        ];
        assert_eq!(process.flags(), expected);
    }
}
