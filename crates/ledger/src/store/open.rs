//! Finds the store behind a URL and brings its tables up to date.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sqlx::SqlStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use tokio::time::timeout;

use super::connect::Connect;
use super::{Placeholders, Store, Writer};

/// How long the end of all connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Characters that are escaped in the path of a URL.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'_')
    .remove(b'-');

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
    /// The database cannot be reached, or refuses the connection.
    #[error("cannot connect to the ledger's store")]
    Connect(#[source] sqlx::Error),
    /// The tables could not be made, or are of a newer version.
    #[error("cannot bring the tables of the ledger up to date")]
    Migrate(#[source] MigrateError),
}

/// A URL that names a store.
enum Location {
    Postgres(String),
    Sqlite(PathBuf),
}

// === impl Store ===

impl Store {
    /// Opens the store at a URL (`postgres://…` or `sqlite:PATH`) and creates or upgrades its tables.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let (store, writer) = Self::open_to_write(url).await?;
        writer.close().await;
        Ok(store)
    }

    /// The same, with the connection that writes events.
    pub(crate) async fn open_to_write(url: &str) -> Result<(Self, Writer), OpenError> {
        let place = Location::parse(url)?;
        if let Location::Sqlite(path) = &place {
            create(path)?;
        }
        let connect = place.connect()?;
        let store = Self::with(&connect, &place).await?;
        // A migration that failed leaves a connection in a state that is not known: all are dropped here.
        let migrated = migrator().run(&store.pool).await;
        migrated.map_err(OpenError::Migrate)?;
        Ok((store, Writer::new(connect, place.placeholders())))
    }

    /// Opens a store that exists, for reading.
    pub async fn open_existing(url: &str) -> Result<Self, OpenError> {
        let place = Location::parse(url)?;
        if let Location::Sqlite(path) = &place
            && !path.exists()
        {
            return Err(OpenError::Missing { path: path.clone() });
        }
        Self::with(&place.connect()?, &place).await
    }

    async fn with(connect: &Connect, place: &Location) -> Result<Self, OpenError> {
        let pool = connect.pool().await.map_err(OpenError::Connect)?;
        let placeholders = place.placeholders();
        Ok(Self { pool, placeholders })
    }

    /// Whether it answers, and is no standby, which takes no write.
    pub(crate) async fn answers(&self) -> bool {
        match self.placeholders {
            Placeholders::Positional => sqlx::query("SELECT 1").execute(&self.pool).await.is_ok(),
            Placeholders::Numbered => {
                let standby = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()");
                standby.fetch_one(&self.pool).await.is_ok_and(|is| !is)
            }
        }
    }

    /// Ends all connections. One that is stuck in a question is left behind.
    pub(crate) async fn close(&self) {
        let _ = timeout(CLOSE_TIMEOUT, self.pool.close()).await;
    }
}

// === impl Location ===

impl Location {
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

    /// How it is connected to.
    fn connect(&self) -> Result<Connect, OpenError> {
        let connect = match self {
            Self::Postgres(url) => Connect::to(url, false),
            Self::Sqlite(path) => Connect::to(&format!("sqlite:{}?mode=rw", escaped(path)), true),
        };
        connect.map_err(OpenError::Url)
    }

    fn placeholders(&self) -> Placeholders {
        match self {
            Self::Postgres(_) => Placeholders::Numbered,
            Self::Sqlite(_) => Placeholders::Positional,
        }
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
    use std::os::unix::ffi::OsStrExt as _;

    percent_encode(path.as_os_str().as_bytes(), RESERVED).to_string()
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
