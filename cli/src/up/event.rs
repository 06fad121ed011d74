//! What the tasks that watch processes report to the supervisor.

use crate::router::Addresses;

/// A report about one process.
#[derive(Debug)]
pub(super) enum Event {
    /// The router of this index listens on these addresses.
    RouterBound(usize, Addresses),
    /// The ledger listens.
    LedgerBound,
    /// The worker of this index has loaded its model.
    WorkerReady(usize),
    /// The router of this index answers `/readyz` with 200.
    RouterReady(usize),
    /// A process cannot be started; the text says why, for people.
    Failed(String),
}
