//! TCP ports: two tests that run on one machine never get the same one.
//!
//! A port that was found free by binding port 0 can be taken by anybody before the server binds it, and by any
//! outgoing connection while a killed server is not yet started again. The ports here lie below the range
//! from which the system takes ports for outgoing connections, and a lock on a file keeps each for its owner, across
//! processes. `e2e/ports.py` takes them by the same rule.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::{env, process};

/// The first port that is lent.
const FIRST: u16 = 20_000;
/// How many there are. The bus of a Redis Cluster is 10,000 above each, and still below the system's range.
const COUNT: u16 = 2_768;
/// From a port to that of the bus of a Redis Cluster.
const BUS: u16 = 10_000;

/// A port of 127.0.0.1, and the one 10,000 above, for as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // Closing the file gives the port back, however the process ends.
    _lock: File,
}

// === impl Port ===

impl Port {
    /// Takes a port that nobody listens on, and that no other test has.
    ///
    /// # Panics
    ///
    /// All are taken, or the folder of the locks (`~/.cache/inferyard/ports`) cannot be written.
    #[must_use]
    pub fn take() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = folder();
        fs::create_dir_all(&folder).expect("the folder of the locks should be made");
        let offset = process::id().wrapping_mul(37);
        (0..COUNT)
            .find_map(|_| {
                let turn = offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
                let place =
                    u16::try_from(turn % u32::from(COUNT)).expect("it should be below COUNT");
                Self::lock(&folder, FIRST + place)
            })
            .expect("a port should be free")
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    fn lock(folder: &Path, number: u16) -> Option<Self> {
        let lock = File::create(folder.join(number.to_string())).ok()?;
        lock.try_lock().ok()?;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop);
        is_free(number).and_then(|()| is_free(number + BUS)).ok()?;
        Some(Self {
            number,
            _lock: lock,
        })
    }
}

fn folder() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from);
    home.join(".cache/inferyard/ports")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nobody_has_a_port_that_another_has() {
        let ports: Vec<_> = (0..100).map(|_| Port::take()).collect();
        let numbers: HashSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 100);
        let own = ports[0].number();
        assert!(Port::lock(&folder(), own).is_none(), "it is lent");
        drop(ports);
        let again = Port::lock(&folder(), own);
        assert!(again.is_some(), "it was given back");
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_not_lent() {
        let port = Port::take();
        let number = port.number();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        drop(port);
        assert!(Port::lock(&folder(), number).is_none());
    }
}
