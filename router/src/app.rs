//! What all requests share.

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
use crate::place::{Fleet, RecordError};
use crate::probes::{Readiness, Status};
use crate::quarantine::Quarantine;
use crate::reserve::Estimates;
use crate::telemetry::Telemetry;
use crate::upstream::Dispatcher;

/// What all requests share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) limiter: Limiter,
    pub(crate) estimates: Estimates,
    /// Requests that end engines.
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Those of clients.
    pub(crate) connections: Connections,
    /// Keys of the key store, where there is one.
    pub(crate) stored_keys: Option<StoredKeys>,
    /// Cancelled when the drain time is over: what still runs ends with an error.
    pub(crate) cut: CancellationToken,
    pub(crate) readiness: Readiness,
    catalog: ArcSwap<Catalog>,
    draining: AtomicBool,
}

/// Why a router cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot keep limits.
    #[error(transparent)]
    Limits(#[from] LimiterError),
    /// It cannot record placements.
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
            telemetry: Arc::clone(&telemetry),
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
            quarantine: Arc::new(Quarantine::new()),
            telemetry,
            cut,
            readiness: Readiness::default(),
            catalog: ArcSwap::from_pointee(Catalog::pending()),
            draining: AtomicBool::new(false),
        })
    }

    /// The catalog that is in force now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// From now on no request is let in.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What probes look at, with the catalog that is in force.
    pub(crate) fn status<'a>(&'a self, catalog: &'a Catalog) -> Status<'a> {
        Status {
            catalog,
            fleet: &self.dispatcher.fleet,
            standstill: self.standstill(),
        }
    }

    /// Why no request is let in now, whatever is declared and loaded; `None`: requests are let in.
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
                    "Too much usage waits for the store of limits: no request is let in."
                }
                NoRoom::Disk => "The disk for usage is full or fails: no request is let in.",
                NoRoom::Ledger => {
                    "Too much usage waits for the ledger's database: no request is let in."
                }
            })
        }
    }

    /// Takes every new catalog, for as long as there can be one.
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
