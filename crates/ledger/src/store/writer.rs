//! The one connection that writes, which is given up as soon as a write fails.

use std::fmt;
use std::time::Duration;

use sqlx::{AnyConnection, Connection as _};
use tokio::time::timeout;

use super::Placeholders;
use super::connect::Connect;
use super::write::{Stored, WriteError, write_batch};
use crate::event::{DeadLetter, Event};

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the check of an idle connection may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a batch may take, the commit included. SQLite waits up to 10 seconds for a lock.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the end of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes batches of events, each in one transaction on a connection of its own.
///
/// After a failed write the state of a connection is not known: SQLite rolls back by itself when a
/// commit finds the disk full, and sqlx goes on to count the transaction as open. A later "commit" on
/// such a connection only releases a savepoint and commits nothing. So no connection on which anything
/// failed is ever used again, and none of these connections is in a pool.
pub(crate) struct Writer {
    connect: Connect,
    placeholders: Placeholders,
    /// No transaction is open on it. It is not here while a write is under way, so that a write that is
    /// cancelled drops it too.
    idle: Option<AnyConnection>,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(connect: Connect, placeholders: Placeholders) -> Self {
        Self {
            connect,
            placeholders,
            idle: None,
        }
    }

    /// Stores events and dead letters, all or none. `Ok` means that the store has confirmed the commit.
    ///
    /// # Errors
    ///
    /// After an error it is not known whether the batch was committed. The same batch may be written
    /// again: what was committed counts once.
    pub(crate) async fn write(
        &mut self,
        events: &[Event],
        dead: &[DeadLetter],
    ) -> Result<Stored, WriteError> {
        let mut connection = self.connection().await?;
        let batch = write_batch(&mut connection, self.placeholders, events, dead);
        let error = match timeout(WRITE_TIMEOUT, batch).await {
            Ok(Ok(stored)) => {
                self.idle = Some(connection);
                return Ok(stored);
            }
            Ok(Err(error)) => error.into(),
            Err(_) => WriteError::TooSlow(WRITE_TIMEOUT),
        };
        // SQLite gives its lock back when the connection is closed; dropped, it does so a little later.
        let _ = timeout(CLOSE_TIMEOUT, connection.close()).await;
        Err(error)
    }

    /// The idle connection where it still answers, else a new one.
    async fn connection(&mut self) -> Result<AnyConnection, WriteError> {
        if let Some(mut idle) = self.idle.take()
            && matches!(timeout(PING_TIMEOUT, idle.ping()).await, Ok(Ok(())))
        {
            return Ok(idle);
        }
        match timeout(CONNECT_TIMEOUT, self.connect.open()).await {
            Ok(connection) => connection.map_err(WriteError::Unavailable),
            Err(_) => Err(WriteError::TooSlow(CONNECT_TIMEOUT)),
        }
    }

    /// Ends the connection. What was confirmed is stored, whatever becomes of this.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.idle {
            let _ = timeout(CLOSE_TIMEOUT, connection.close()).await;
        }
    }
}

/// The options of a connection hold a password.
impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}
