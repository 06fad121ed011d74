//! A child to be kept running: its name, its command line, and what is known of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::router::Addresses;

/// A child to be kept running, over all its lives.
pub(super) struct Part {
    /// What people read: `router`, `worker demo-0`.
    pub(super) name: String,
    flags: Vec<OsString>,
    listen: Option<RouterListen>,
    proven: AtomicBool,
    pid: AtomicU32,
}

/// Where the router is to listen, and where it does: the port that its first life was given, the
/// following ones keep.
pub(super) struct RouterListen {
    asked: Addresses,
    bound: OnceLock<Addresses>,
}

// === impl Part ===

impl Part {
    pub(super) fn new(name: String, flags: Vec<OsString>, listen: Option<RouterListen>) -> Self {
        Self {
            name,
            flags,
            listen,
            proven: AtomicBool::new(false),
            pid: AtomicU32::new(0),
        }
    }

    /// The command line of its next life.
    pub(super) fn flags(&self) -> Vec<OsString> {
        let mut flags = self.flags.clone();
        if let Some(listen) = &self.listen {
            flags.extend(listen.flags());
        }
        flags
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

    /// Reads the line in which a router says where it listens.
    pub(super) fn bound(&self, line: &[u8]) -> Option<Addresses> {
        let listen = self.listen.as_ref()?;
        let addresses = serde_json::from_slice(line).ok()?;
        Some(*listen.bound.get_or_init(|| addresses))
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
        let part = Part::new(
            "router".into(),
            vec!["router".into()],
            Some(RouterListen::new(any, any)),
        );
        assert!(part.bound(b"not a line of addresses").is_none());
        let line = br#"{"address":"127.0.0.1:4001","metrics_address":"127.0.0.1:4002"}"#;
        assert_eq!(part.bound(line).unwrap().address.port(), 4001);
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
