//! How connections to a store are made.

use std::sync::Once;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _};

/// Questions that are answered at the same time.
const CONNECTIONS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers go on while one writes; an event that was acknowledged is on disk.
const SQLITE_SETTINGS: &str =
    "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// How connections to a store are made.
#[derive(Clone)]
pub(super) struct Connect {
    options: AnyConnectOptions,
    is_sqlite: bool,
}

// === impl Connect ===

impl Connect {
    pub(super) fn to(url: &str, is_sqlite: bool) -> sqlx::Result<Self> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(install_default_drivers);
        let options: AnyConnectOptions = url.parse()?;
        Ok(Self {
            options: options.disable_statement_logging(),
            is_sqlite,
        })
    }

    /// One connection, which is in no pool.
    pub(super) async fn open(&self) -> sqlx::Result<AnyConnection> {
        let mut connection = self.options.connect().await?;
        set_up(&mut connection, self.is_sqlite).await?;
        Ok(connection)
    }

    /// Connections for questions, which write nothing.
    pub(super) async fn pool(&self) -> sqlx::Result<AnyPool> {
        let is_sqlite = self.is_sqlite;
        AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| Box::pin(set_up(connection, is_sqlite)))
            .connect_with(self.options.clone())
            .await
    }
}

async fn set_up(connection: &mut AnyConnection, is_sqlite: bool) -> sqlx::Result<()> {
    if is_sqlite {
        sqlx::raw_sql(SQLITE_SETTINGS).execute(connection).await?;
    }
    Ok(())
}
