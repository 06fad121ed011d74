//! Usage events into a durable store, exactly once, and what it answers about them.
//!
//! ```text
//! source        Redis streams · a router of this process   ─► out of reach: tries for ever
//! event         bytes → Event                              ─► dead_letters
//! store         one transaction: events, sums, prices      ─► unavailable: tries for ever, each time on a
//!                                                             new connection
//! acknowledge   only what a commit confirmed: XACK and XDEL
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

/// What a ledger does.
#[derive(Debug)]
pub struct Config {
    /// Where events are stored: `postgres://…` or `sqlite:PATH`.
    pub store: String,
    /// Where events come from.
    pub source: Source,
    /// Where the usage API listens; None: nowhere.
    pub listen: Option<Listen>,
    /// Who may ask it.
    pub admin_keys: Vec<KeyHash>,
    /// The keys that may be made and revoked there; None: none.
    pub key_store: Option<KeyStore>,
    /// How long it goes on storing once it is asked to stop.
    pub drain_timeout: Duration,
}

/// A healthy store takes the largest backlog of a router well within this time.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a ledger cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// What an earlier process could not store.
    #[error(transparent)]
    Leftover(#[from] LeftoverError),
    /// The address.
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

/// How a worker's life is written in [`WorkerTotals`]: 16 hexadecimal digits.
#[must_use]
pub fn boot_text(boot: u64) -> String {
    event::boot_text(boot)
}

// === impl Ledger ===

impl Ledger {
    /// Opens the store, creates or upgrades its tables, and binds the address. Redis is not asked yet.
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

    /// Stores events and answers questions until `shutdown`; then what is there is still stored, for
    /// [`Config::drain_timeout`] at most. With [`Source::Channel`] it ends once all senders are gone, also without `shutdown`;
    /// `shutdown` must not come before the last event.
    ///
    /// # Errors
    ///
    /// Events are lost, or the store refuses one for ever. What stays in Redis or in a file is not lost.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), DrainError> {
        let health = Arc::new(Health::default());
        // The API ends with the drain, whichever way that ends.
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
