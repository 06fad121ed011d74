//! State that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use inferyard_admission::{Limiter, LimiterError, NoRoom};
use inferyard_catalog::Catalog;
use inferyard_listen::Connections;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authenticate::StoredKeys;
use crate::config::Config;
use crate::probes::{Readiness, Status};
use crate::telemetry::Telemetry;
use inferyard_admission::Estimates;
use inferyard_upstream::Dispatcher;
use inferyard_upstream::Quarantine;
use inferyard_upstream::{Fleet, RecordError};

/// State that all requests share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) limiter: Limiter,
    pub(crate) estimates: Estimates,
    /// Requests that crashed an engine.
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Connections of clients, without those of scrapers.
    pub(crate) connections: Connections,
    /// Keys in the key store; `None`: no key store is configured.
    pub(crate) stored_keys: Option<StoredKeys>,
    /// Cancelled after the drain time: running answers then end with an error.
    pub(crate) cut: CancellationToken,
    pub(crate) readiness: Readiness,
    catalog: ArcSwap<Catalog>,
    draining: AtomicBool,
}

/// Why a router cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The limiter cannot be set up.
    #[error(transparent)]
    Limits(#[from] LimiterError),
    /// The file for placement recordings cannot be opened.
    #[error(transparent)]
    Record(#[from] RecordError),
}

// === impl App ===

impl App {
    pub(crate) fn new(
        config: Config,
        register: impl FnOnce(&mut Registry),
    ) -> Result<Self, StartError> {
        let mut telemetry = Telemetry::new();
        telemetry.add(register);
        let telemetry = Arc::new(telemetry);
        let limiter = Limiter::new(config.limits.clone(), Arc::clone(&telemetry.limits))?;
        let dispatcher = Dispatcher {
            fleet: Fleet::new(config.record_placements.clone())?,
            metrics: Arc::clone(&telemetry.upstream),
            cancelled: TaskTracker::new(),
        };
        let cut = CancellationToken::new();
        let counts = telemetry.connections.clone();
        Ok(Self {
            connections: Connections::new(config.bounds(), counts, cut.clone()),
            stored_keys: config.key_store.clone().map(StoredKeys::new),
            config,
            dispatcher: Arc::new(dispatcher),
            limiter,
            estimates: Estimates::default(),
            quarantine: Arc::new(Quarantine::default()),
            telemetry,
            cut,
            readiness: Readiness::default(),
            catalog: ArcSwap::from_pointee(Catalog::pending()),
            draining: AtomicBool::new(false),
        })
    }

    /// The current catalog.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Marks the router as shutting down: it is not ready from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The state that probes report, for this catalog.
    pub(crate) fn status<'a>(&'a self, catalog: &'a Catalog) -> Status<'a> {
        Status {
            catalog,
            fleet: &self.dispatcher.fleet,
            standstill: self.standstill(),
        }
    }

    /// Why the router serves no request now, regardless of models and workers; `None`: it serves requests.
    fn standstill(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("The router is shutting down.")
        } else if self.connections.are_full() {
            Some(
                "The router has as many connections as it may, and accepts no more until one ends.",
            )
        } else {
            self.limiter.room().err().map(|why| match why {
                NoRoom::Full => {
                    "Too much usage waits for the store of limits: no request is admitted."
                }
                NoRoom::Disk => "The disk for usage is full or fails: no request is admitted.",
                NoRoom::Ledger => {
                    "Too much usage waits for the ledger's database: no request is admitted."
                }
            })
        }
    }

    /// Applies each new catalog; returns when the sender is dropped.
    pub(crate) async fn follow(&self, mut catalogs: watch::Receiver<Arc<Catalog>>) {
        loop {
            let catalog = Arc::clone(&catalogs.borrow_and_update());
            self.dispatcher.fleet.update(&catalog);
            self.catalog.store(catalog);
            if catalogs.changed().await.is_err() {
                return;
            }
        }
    }
}
