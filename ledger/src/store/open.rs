//! Finds the store behind a URL and brings its tables up to date.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyPool, ConnectOptions as _, SqlStr};

use super::{Places, Store};

/// Writing takes one; the rest are for those who ask.
const CONNECTIONS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers go on while one writes; an event that was acknowledged is on disk.
const SQLITE_SETTINGS: &str =
    "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL leads to neither kind of store.
    #[error(
        "the store is neither PostgreSQL nor SQLite: expected postgres://USER:PASSWORD@HOST/DATABASE \
         or sqlite:PATH"
    )]
    UnknownKind,
    /// The URL is not one.
    #[error("the URL of the store cannot be read")]
    Url(#[source] sqlx::Error),
    /// The file cannot be made.
    #[error("cannot create the SQLite file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such file.
    #[error(
        "there is no ledger at {}: `inferyard ledger` or a router creates it",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Nobody answers, or the answer is no.
    #[error("cannot connect to the ledger's store")]
    Connect(#[source] sqlx::Error),
    /// The tables could not be made, or are of a newer version.
    #[error("cannot bring the tables of the ledger up to date")]
    Migrate(#[source] MigrateError),
}

/// A URL that names a store.
enum Place {
    Postgres(String),
    Sqlite(PathBuf),
}

// === impl Store ===

impl Store {
    /// Opens the store at a URL (`postgres://…` or `sqlite:PATH`) and creates or upgrades its tables.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let place = Place::parse(url)?;
        if let Place::Sqlite(path) = &place {
            create(path)?;
        }
        let pool = place.connect().await?;
        migrator().run(&pool).await.map_err(OpenError::Migrate)?;
        let places = place.places();
        Ok(Self { pool, places })
    }

    /// Opens a store that exists, for reading.
    pub async fn open_existing(url: &str) -> Result<Self, OpenError> {
        let place = Place::parse(url)?;
        if let Place::Sqlite(path) = &place
            && !path.exists()
        {
            return Err(OpenError::Missing { path: path.clone() });
        }
        let pool = place.connect().await?;
        let places = place.places();
        Ok(Self { pool, places })
    }

    /// Whether it answers.
    pub(crate) async fn answers(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

// === impl Place ===

impl Place {
    fn parse(url: &str) -> Result<Self, OpenError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite:") {
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                Ok(Self::Sqlite(path.into()))
            }
            None => Err(OpenError::UnknownKind),
        }
    }

    fn places(&self) -> Places {
        match self {
            Self::Postgres(_) => Places::Numbered,
            Self::Sqlite(_) => Places::Bare,
        }
    }

    async fn connect(&self) -> Result<AnyPool, OpenError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(install_default_drivers);
        let (url, is_sqlite) = match self {
            Self::Postgres(url) => (url.clone(), false),
            Self::Sqlite(path) => (format!("sqlite:{}?mode=rw", escaped(path)), true),
        };
        let options: AnyConnectOptions = url.parse().map_err(OpenError::Url)?;
        AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        sqlx::raw_sql(SQLITE_SETTINGS).execute(connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options.disable_statement_logging())
            .await
            .map_err(OpenError::Connect)
    }
}

/// The file is its owner's alone, and so are the log and the index that SQLite puts beside it.
fn create(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(source) => Err(OpenError::Create {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A path within a URL.
fn escaped(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let mut out = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            out.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn migrator() -> Migrator {
    let first = Migration::new(
        1,
        "ledger".into(),
        MigrationType::Simple,
        SqlStr::from_static(include_str!("../../migrations/0001_ledger.sql")),
        false,
    );
    Migrator::with_migrations(vec![first])
}
