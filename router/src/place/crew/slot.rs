//! A place on a worker, and the guard that gives it back.

use std::fmt;
use std::sync::{Arc, Weak};

use inferyard_placement::{Charge, Outcome, Ticket};

use super::Crew;
use crate::place::worker::Worker;

/// A place on a worker; dropping it gives the place back.
pub(crate) struct Slot {
    /// Hears what becomes of the slot; gone once its model is not declared any more.
    crew: Weak<Crew>,
    worker: Arc<Worker>,
    boot_id: u64,
    ticket: Ticket,
    /// What its account was charged for it; `None`: it was given back.
    charge: Option<Charge>,
    /// Tokens of the answer so far.
    produced: u64,
    /// How often the worker had broken off when the place was taken.
    crashes: u64,
    outcome: Outcome,
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(
        crew: Weak<Crew>,
        worker: Arc<Worker>,
        ticket: Ticket,
        boot_id: u64,
        charge: Charge,
    ) -> Self {
        let crashes = worker.begins();
        Self {
            crew,
            worker,
            boot_id,
            ticket,
            charge: Some(charge),
            produced: 0,
            crashes,
            outcome: Outcome::Untold,
        }
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// The worker's life in which the place was taken.
    pub(crate) fn boot_id(&self) -> u64 {
        self.boot_id
    }

    /// The first token is there: the worker itself says from now on what it holds.
    pub(crate) fn begun(&self) {
        if let Some(crew) = self.crew.upgrade() {
            crew.begun(self.ticket);
        }
    }

    /// So many tokens more are there.
    pub(crate) fn produced(&mut self, tokens: u32) {
        self.produced += u64::from(tokens);
    }

    /// So many tokens are there in all.
    pub(crate) fn produced_in_all(&mut self, tokens: u32) {
        self.produced = tokens.into();
    }

    /// How the request ended, where that tells something of the worker.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The worker broke off under the request. Whether it had no other at that moment, and was not about to end.
    pub(crate) fn crashed_alone(&self) -> bool {
        self.worker.crashed_alone(self.crashes)
    }

    /// The worker has no room after all.
    pub(crate) fn refused(&mut self) {
        if let Some(crew) = self.crew.upgrade() {
            crew.refused(self.ticket, self.charge.take().as_ref());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(crew) = self.crew.upgrade() {
            let charge = self.charge.as_ref();
            crew.ended(self.ticket, charge, self.produced, self.outcome);
        }
        self.worker.ends();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.worker.endpoint())
    }
}
