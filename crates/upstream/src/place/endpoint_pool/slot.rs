//! A slot on a worker: a guard that frees it when dropped.

use std::fmt;
use std::sync::{Arc, Weak};

use inferyard_domain::InstanceId;
use inferyard_placement::{Charge, Outcome, Ticket};

use super::EndpointPool;
use crate::place::worker::Worker;

/// A slot on a worker; dropping it frees the slot and reports the outcome.
pub(crate) struct Slot {
    /// Notified of the slot's progress; dangling once the model is no longer declared.
    endpoints: Weak<EndpointPool>,
    worker: Arc<Worker>,
    instance: Option<InstanceId>,
    ticket: Ticket,
    /// What the account was charged; `None`: taken back.
    charge: Option<Charge>,
    /// Tokens of the answer so far.
    produced: u64,
    /// The worker's crash count when the slot was taken.
    crashes: u64,
    outcome: Outcome,
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(
        endpoints: Weak<EndpointPool>,
        worker: Arc<Worker>,
        ticket: Ticket,
        instance: Option<InstanceId>,
        charge: Charge,
    ) -> Self {
        let crashes = worker.begins();
        Self {
            endpoints,
            worker,
            instance,
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

    /// The instance of the worker on which the slot was taken.
    pub(crate) fn instance(&self) -> Option<InstanceId> {
        self.instance
    }

    /// The first token arrived: from now on the worker's state includes the prompt.
    pub(crate) fn begun(&self) {
        if let Some(endpoints) = self.endpoints.upgrade() {
            endpoints.begun(self.ticket);
        }
    }

    /// Adds tokens of the answer.
    pub(crate) fn produced(&mut self, tokens: u32) {
        self.produced += u64::from(tokens);
    }

    /// Sets all tokens of the answer, as the worker counted them.
    pub(crate) fn produced_in_all(&mut self, tokens: u32) {
        self.produced = tokens.into();
    }

    /// Sets the outcome that is reported on drop.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Records that the worker crashed during the request. True: it had no other request, and was not draining
    /// or removed.
    pub(crate) fn crashed_alone(&self) -> bool {
        self.worker.crashed_alone(self.crashes)
    }

    /// The worker refused the request for want of room; takes the charge back.
    pub(crate) fn refused(&mut self) {
        if let Some(endpoints) = self.endpoints.upgrade() {
            endpoints.refused(self.ticket, self.charge.take().as_ref());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(endpoints) = self.endpoints.upgrade() {
            let charge = self.charge.as_ref();
            endpoints.ended(self.ticket, charge, self.produced, self.outcome);
        }
        self.worker.ends();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.worker.endpoint())
    }
}
