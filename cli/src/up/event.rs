//! What happens to the children of one `up`.

use crate::router::Addresses;

/// What happens to the children.
#[derive(Debug)]
pub(super) enum Event {
    /// The router of this number listens.
    Bound(usize, Addresses),
    /// The ledger listens.
    LedgerBound,
    /// The worker of this number has loaded its model.
    Ready(usize),
    /// The router of this number can serve.
    Serving(usize),
    /// A child cannot start; a sentence says why.
    Failed(String),
}
