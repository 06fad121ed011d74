//! The durable store: PostgreSQL and SQLite through the same statements.

use sqlx::AnyPool;

mod connect;
mod open;
mod report;
mod write;
mod writer;

pub use open::OpenError;
pub use report::{Dimension, Period, Row, Totals, WorkerTotals};
pub(crate) use write::{Stored, WriteError};
pub(crate) use writer::Writer;

/// Connections to the ledger's tables, for queries.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    placeholders: Placeholders,
}

/// How a statement marks its parameters: the one difference between the two databases.
/// SQLite reads `$1` as well, but searches for it by name, which takes a second for thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholders {
    /// `$1`, `$2`, …
    Numbered,
    /// `?`
    Positional,
}

/// The store could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's store cannot be read")]
pub struct StoreError(#[source] sqlx::Error);
