//! Stores usage events durably, exactly once, and serves queries about them.
//!
//! ```text
//! source        Redis streams · a router of this process   ─► unreachable: retried without end
//! event         bytes → Event                              ─► dead_letters
//! store         one transaction: events, sums, prices      ─► unavailable: tries for ever, each time on a
//!                                                             new connection
//! acknowledge   only after a confirmed commit: XACK and XDEL
//!
//! organization  /v1/organization/usage/completions, /v1/organization/costs and
//!               /v1/organization/api_keys, behind admin keys
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

mod event;
mod money;
mod source;
mod store;
mod drain;
mod serve;
mod organization;

use drain::Health;
use inferyard_keys::{KeyHash, KeyStore};
use inferyard_listen::Listener;
use store::Writer;

pub use drain::DrainError;
pub use inferyard_listen::{Address, BindError, Listen, ListenError};
pub use money::dollars;
pub use source::{LeftoverError, Source};
pub use store::{
    Dimension, OpenError as StoreOpenError, Period, Row, Store, StoreError, Totals, WorkerTotals,
};

/// Settings of a ledger.
#[derive(Debug)]
pub struct Config {
    /// Where events are stored: `postgres://…` or `sqlite:PATH`.
    pub store: String,
    /// Where events come from.
    pub source: Source,
    /// Address of the usage API; `None`: it is not served.
    pub listen: Option<Listen>,
    /// Hashes of the keys that may use it.
    pub admin_keys: Vec<KeyHash>,
    /// The key store that the API manages; `None`: it manages no keys.
    pub key_store: Option<KeyStore>,
    /// How long events are still stored after the shutdown began.
    pub drain_timeout: Duration,
}

/// Default drain timeout: a healthy store takes the largest backlog of a router well within it.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a ledger cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// The file with events that an earlier process could not store cannot be read.
    #[error(transparent)]
    Leftover(#[from] LeftoverError),
    /// The address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A ledger that is open and bound, and does not run yet.
pub struct Ledger {
    store: Store,
    writer: Writer,
    source: source::Open,
    drain_timeout: Duration,
    listener: Option<Listener>,
    admin_keys: Vec<KeyHash>,
    key_store: Option<KeyStore>,
}

/// A worker's instance ID as [`WorkerTotals`] has it: 16 hexadecimal digits.
#[must_use]
pub fn instance_text(instance: u64) -> String {
    event::instance_text(instance)
}

// === impl Ledger ===

impl Ledger {
    /// Opens the store, creates or upgrades its tables, and binds the address. Redis is not connected yet.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let source = source::Open::new(config.source)?;
        let (store, writer) = Store::open_to_write(&config.store).await?;
        let listener = match config.listen {
            Some(listen) => Some(Listener::bind(&listen).await?),
            None => None,
        };
        Ok(Self {
            store,
            writer,
            source,
            drain_timeout: config.drain_timeout,
            listener,
            admin_keys: config.admin_keys,
            key_store: config.key_store,
        })
    }

    /// Where the usage API listens.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.listener.as_ref().map(Listener::address)
    }

    /// Stores events and serves queries until `shutdown`, and then stores remaining events for up to
    /// [`Config::drain_timeout`]. With [`Source::Channel`] it also ends when all senders are dropped; `shutdown` must
    /// not be cancelled before the last event was sent.
    ///
    /// # Errors
    ///
    /// Events are lost, or the store refuses an event for good. Events that stay in Redis or in a file are not lost.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), DrainError> {
        let health = Arc::new(Health::default());
        // The API stops when the drain ends, also when that fails.
        let end = shutdown.child_token();
        let serving = async {
            if let Some(listener) = self.listener {
                let app = organization::app(
                    self.store.clone(),
                    Arc::clone(&health),
                    self.admin_keys,
                    self.key_store,
                );
                serve::serve(listener, app, end.clone()).await;
            }
        };
        let drain = async {
            let done = drain::run(
                self.source,
                self.writer,
                Arc::clone(&health),
                shutdown.clone(),
                self.drain_timeout,
            )
            .await;
            end.cancel();
            done
        };
        let (done, ()) = tokio::join!(drain, serving);
        self.store.close().await;
        done
    }
}
