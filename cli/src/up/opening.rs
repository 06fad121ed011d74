//! What must be there before the first request can be sent.

use super::fleet::Fleet;
use crate::router::Addresses;

/// Parts of the house that are still awaited.
pub(super) struct Opening {
    /// Of each router, once it listens.
    bound: Vec<Option<Addresses>>,
    /// Workers that load their models.
    loading: Vec<bool>,
    ledger: bool,
    /// Of each router, whether it has said that it can serve.
    serving: Vec<bool>,
    asked: bool,
}

// === impl Opening ===

impl Opening {
    pub(super) fn of(fleet: &Fleet) -> Self {
        Self {
            bound: vec![None; fleet.routers.len()],
            loading: vec![true; fleet.workers.len()],
            ledger: fleet.ledger.is_some(),
            serving: vec![false; fleet.routers.len()],
            asked: false,
        }
    }

    pub(super) fn bound(&mut self, router: usize, addresses: Addresses) {
        self.bound[router] = Some(addresses);
    }

    pub(super) fn loaded(&mut self, worker: usize) {
        self.loading[worker] = false;
    }

    pub(super) fn ledger_listens(&mut self) {
        self.ledger = false;
    }

    /// All addresses, once and as soon as every part is up: then the routers can be asked whether they
    /// have heard of the workers.
    pub(super) fn take_ready(&mut self) -> Option<Vec<Addresses>> {
        if self.asked || self.ledger || self.loading.contains(&true) {
            return None;
        }
        let addresses: Vec<_> = self.bound.iter().copied().collect::<Option<_>>()?;
        self.asked = true;
        Some(addresses)
    }

    /// All addresses, when the last router serves.
    pub(super) fn serves(&mut self, router: usize) -> Option<Vec<Addresses>> {
        let before = self.serving.contains(&false);
        self.serving[router] = true;
        if !before || self.serving.contains(&false) {
            return None;
        }
        self.bound.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_once_when_the_last_part_is_there() {
        let at = |port: u16| Addresses {
            address: ([127, 0, 0, 1], port).into(),
            metrics_address: None,
        };
        let mut opening = Opening {
            bound: vec![None; 2],
            loading: vec![true],
            ledger: true,
            serving: vec![false; 2],
            asked: false,
        };
        opening.bound(1, at(2));
        opening.loaded(0);
        opening.bound(0, at(1));
        assert_eq!(opening.take_ready(), None, "the ledger is missing");
        opening.ledger_listens();
        assert_eq!(opening.take_ready(), Some(vec![at(1), at(2)]));
        assert_eq!(opening.take_ready(), None, "once is enough");
        assert_eq!(opening.serves(1), None);
        assert_eq!(opening.serves(0), Some(vec![at(1), at(2)]));
        assert_eq!(opening.serves(0), None);
    }
}
