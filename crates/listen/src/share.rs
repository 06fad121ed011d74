//! How many connections each client has open, so that one client cannot take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::network::{Network, client_network};

/// Open connections by client.
#[derive(Debug)]
pub(crate) struct Shares {
    most: usize,
    /// Proxies, whose addresses stand for many clients.
    exempt: Vec<Network>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of a client, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    /// `None`: the peer is exempt.
    counted: Option<(Arc<Shares>, IpAddr)>,
}

// === impl Shares ===

impl Shares {
    pub(crate) fn new(most: usize, exempt: Vec<Network>) -> Arc<Self> {
        Arc::new(Self {
            most,
            exempt,
            open: Mutex::new(HashMap::new()),
        })
    }

    /// Counts a connection of this peer; `None`: its client has the maximum already.
    pub(crate) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Share> {
        if self.exempt.iter().any(|network| network.contains(peer)) {
            return Some(Share::uncounted());
        }
        let client = client_network(peer);
        let mut open = self.open.lock();
        let count = open.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share {
            counted: Some((Arc::clone(self), client)),
        })
    }
}

// === impl Share ===

impl Share {
    /// For a peer that is not counted: a trusted proxy, or a process on the same machine.
    pub(crate) fn uncounted() -> Self {
        Self { counted: None }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, client)) = &self.counted else {
            return;
        };
        let mut open = shares.open.lock();
        if let Some(count) = open.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                open.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_share_and_a_proxy_has_none() {
        let shares = Shares::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let take = |peer: &str| shares.take(peer.parse().unwrap());
        let first = take("203.0.113.1").unwrap();
        let _second = take("::ffff:203.0.113.1").unwrap();
        assert!(take("203.0.113.1").is_none());
        let _other = take("203.0.113.2").unwrap();
        drop(first);
        let _again = take("203.0.113.1").unwrap();
        // One household of IPv6 addresses.
        let _six = take("2001:db8:0:100::1").unwrap();
        let _seven = take("2001:db8:0:1ff::2").unwrap();
        assert!(take("2001:db8:0:101::3").is_none());
        assert!(take("2001:db8:0:200::1").is_some());
        let _proxied: Vec<_> = (0..9).map(|_| take("10.0.0.1").unwrap()).collect();
    }

    #[test]
    fn clients_that_left_are_forgotten() {
        let shares = Shares::new(1, Vec::new());
        drop(shares.take("203.0.113.1".parse().unwrap()));
        assert!(shares.open.lock().is_empty());
    }
}
