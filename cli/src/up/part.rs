//! A child to be kept running: its name, its command line, and what is known of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::event::Event;
use crate::router::Addresses;

/// Addresses with passwords, which other users of the machine must not read off the list of processes.
pub(super) const REDIS: &str = "INFERYARD_REDIS";
pub(super) const POSTGRES: &str = "INFERYARD_POSTGRES";
/// What a ledger calls its database.
pub(super) const STORE: &str = "INFERYARD_STORE";
const KEY_STORE: &str = "INFERYARD_KEY_STORE";

/// All environment variables that hold such an address.
pub(super) const SECRETS: [&str; 4] = [REDIS, POSTGRES, STORE, KEY_STORE];

/// A child to be kept running, over all its lives.
pub(super) struct Part {
    /// What people read: `router`, `router 2`, `ledger`, `worker demo-0`.
    pub(super) name: String,
    role: Role,
    command: CommandLine,
    proven: AtomicBool,
    pid: AtomicU32,
}

/// How a child is started.
#[derive(Default)]
pub(super) struct CommandLine {
    pub(super) flags: Vec<OsString>,
    /// Some of [`SECRETS`].
    pub(super) secrets: Vec<(&'static str, OsString)>,
}

/// What a child does, as far as it matters to the one who keeps it.
pub(super) enum Role {
    /// Says over its state stream when it works.
    Worker,
    /// Says on standard output where it listens.
    Router {
        /// Its place among the routers.
        index: usize,
        listen: RouterListen,
    },
    /// Says on standard output that it listens.
    Ledger,
}

/// Where a router is to listen, and where it does: the port that its first life was given, the
/// following ones keep.
pub(super) struct RouterListen {
    asked: Addresses,
    bound: OnceLock<Addresses>,
}

// === impl Part ===

impl Part {
    pub(super) fn new(name: String, role: Role, command: CommandLine) -> Self {
        Self {
            name,
            role,
            command,
            proven: AtomicBool::new(false),
            pid: AtomicU32::new(0),
        }
    }

    /// The command line of its next life.
    pub(super) fn flags(&self) -> Vec<OsString> {
        let mut flags = self.command.flags.clone();
        if let Role::Router { listen, .. } = &self.role {
            flags.extend(listen.flags());
        }
        flags
    }

    /// The environment variables of its next life, beside those that it inherits.
    pub(super) fn secrets(&self) -> &[(&'static str, OsString)] {
        &self.command.secrets
    }

    /// It has worked once: from now on its end is an accident, not a mistake in its settings.
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// The process of its present life; 0 between lives.
    pub(super) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    pub(super) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Reads a line of its standard output.
    pub(super) fn said(&self, line: &[u8]) -> Option<Event> {
        let event = match &self.role {
            Role::Worker => return None,
            Role::Router { index, listen } => {
                let addresses = serde_json::from_slice(line).ok()?;
                Event::Bound(*index, *listen.bound.get_or_init(|| addresses))
            }
            Role::Ledger => {
                serde_json::from_slice::<serde::de::IgnoredAny>(line).ok()?;
                Event::LedgerBound
            }
        };
        self.prove();
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
    fn the_port_of_the_first_life_stays() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let role = Role::Router {
            index: 1,
            listen: RouterListen::new(any, any),
        };
        let command = CommandLine {
            flags: vec!["router".into()],
            secrets: Vec::new(),
        };
        let part = Part::new("router 2".into(), role, command);
        assert!(part.said(b"not a line of addresses").is_none());
        assert!(!part.is_proven());
        let line = br#"{"address":"127.0.0.1:4001","metrics_address":"127.0.0.1:4002"}"#;
        assert!(matches!(part.said(line), Some(Event::Bound(1, _))));
        assert!(part.is_proven());
        let expected = [
            "router",
            "--listen",
            "127.0.0.1:4001",
            "--metrics-listen",
            "127.0.0.1:4002",
        ];
        assert_eq!(part.flags(), expected);
    }
}
