//! The durable store: PostgreSQL and SQLite through the same statements.

use sqlx::AnyPool;

mod open;
mod report;
mod write;

pub use open::OpenError;
pub use report::{Group, Period, Row, Totals, WorkerTotals};
pub(crate) use write::{Stored, WriteError};

/// A connection to the ledger's tables.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    places: Places,
}

/// How a statement marks the values that it is given; the one difference between the two stores.
/// SQLite reads `$1` as well, but searches for it by name, which takes a second for thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// `$1`, `$2`, …
    Numbered,
    /// `?`
    Bare,
}

/// The store could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's store cannot be read")]
pub struct StoreError(#[source] sqlx::Error);
