//! What must be up before the first request can be sent.

use super::fleet::Fleet;
use crate::router::Addresses;

/// Which processes are still awaited.
pub(super) struct Startup {
    /// The addresses of each router, once it listens.
    bound: Vec<Option<Addresses>>,
    /// Of each worker, whether it is still loading its model.
    loading: Vec<bool>,
    /// Whether there is a ledger that does not listen yet.
    ledger_missing: bool,
    /// Of each router, whether its `/readyz` has answered 200.
    ready: Vec<bool>,
    /// Whether the probes of the routers have been handed out.
    probed: bool,
}

// === impl Startup ===

impl Startup {
    pub(super) fn of(fleet: &Fleet) -> Self {
        Self {
            bound: vec![None; fleet.routers.len()],
            loading: vec![true; fleet.workers.len()],
            ledger_missing: fleet.ledger.is_some(),
            ready: vec![false; fleet.routers.len()],
            probed: false,
        }
    }

    pub(super) fn router_bound(&mut self, router: usize, addresses: Addresses) {
        self.bound[router] = Some(addresses);
    }

    pub(super) fn worker_ready(&mut self, worker: usize) {
        self.loading[worker] = false;
    }

    pub(super) fn ledger_bound(&mut self) {
        self.ledger_missing = false;
    }

    /// The addresses of all routers, once, as soon as every process is up: from then on a router can be probed for
    /// whether it knows of the workers.
    pub(super) fn take_probes(&mut self) -> Option<Vec<Addresses>> {
        if self.probed || self.ledger_missing || self.loading.contains(&true) {
            return None;
        }
        let addresses: Vec<_> = self.bound.iter().copied().collect::<Option<_>>()?;
        self.probed = true;
        Some(addresses)
    }

    /// The addresses of all routers, when the last of them has become ready.
    pub(super) fn router_ready(&mut self, router: usize) -> Option<Vec<Addresses>> {
        let before = self.ready.contains(&false);
        self.ready[router] = true;
        if !before || self.ready.contains(&false) {
            return None;
        }
        self.bound.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_once_when_the_last_process_is_up() {
        let at = |port: u16| Addresses {
            address: ([127, 0, 0, 1], port).into(),
            metrics_address: None,
        };
        let mut startup = Startup {
            bound: vec![None; 2],
            loading: vec![true],
            ledger_missing: true,
            ready: vec![false; 2],
            probed: false,
        };
        startup.router_bound(1, at(2));
        startup.worker_ready(0);
        startup.router_bound(0, at(1));
        assert_eq!(startup.take_probes(), None, "the ledger is missing");
        startup.ledger_bound();
        assert_eq!(startup.take_probes(), Some(vec![at(1), at(2)]));
        assert_eq!(startup.take_probes(), None, "once is enough");
        assert_eq!(startup.router_ready(1), None);
        assert_eq!(startup.router_ready(0), Some(vec![at(1), at(2)]));
        assert_eq!(startup.router_ready(0), None);
    }
}
