//! Lifecycle of a router: bind, serve, drain, stop.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::Catalog;
use inferyard_listen::{Bounds, Connections, Counts, Paced, clear};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, StartError};
use crate::config::Config;
use crate::flow;
use crate::scrape::scrape;
use crate::tls::{Tls, TlsError};
use crate::unreadable::Refusals;

/// Time for cut answers to send their error frame: a worker has 2 s to report what it produced for them.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// A router that has bound its ports but serves nothing yet.
pub struct Router {
    app: Arc<App>,
    api: Bound,
    metrics: Option<Bound>,
    tls: Option<Arc<Tls>>,
    /// Reloads the certificate files while it is polled.
    renewing: Renewing,
}

type Renewing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why a router cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A port cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address to listen on.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The limiter or the recording of placements cannot be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificate cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a router stopped without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The sender of catalogs was dropped: no change would arrive any more.
    #[error("discovery has ended, so that changes of models and keys would go unnoticed")]
    CatalogLost,
}

// === impl Router ===

impl Router {
    /// Binds the ports and opens the spool folder, in which usage waits for Redis.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_with(config, |_| ()).await
    }

    /// Like [`Self::bind`]; `register` adds metrics to those of the router.
    pub async fn bind_with(
        config: Config,
        register: impl FnOnce(&mut Registry),
    ) -> Result<Self, BindError> {
        let (tls, renewing): (_, Renewing) = match config.tls.clone().map(Tls::load).transpose()? {
            Some((tls, renewing)) => (Some(tls), Box::pin(renewing)),
            None => (None, Box::pin(std::future::pending())),
        };
        let api = Bound::new(config.listen).await?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(Bound::new(address).await?),
            None => None,
        };
        let app = Arc::new(App::new(config, register)?);
        Ok(Self {
            app,
            api,
            metrics,
            tls,
            renewing,
        })
    }

    /// Address of the API.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// Address of `/metrics`.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|bound| bound.address)
    }

    /// Serves until `shutdown` is cancelled, and then stops in this order: readiness fails; new connections are
    /// no longer accepted; running answers end or are cut with an error frame after the drain time; their usage
    /// is stored durably.
    ///
    /// The sender of `catalog` must live until then.
    pub async fn run(
        self,
        catalog: watch::Receiver<Arc<Catalog>>,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let app = self.app;
        let (limits, end_of_limits) = (TaskTracker::new(), CancellationToken::new());
        limits.spawn({
            let (app, end) = (Arc::clone(&app), end_of_limits.clone());
            async move { app.limiter.run(end).await }
        });
        let clients = &app.connections;
        let scrapers = Connections::new(
            Bounds::of_probes(),
            Counts::default(),
            CancellationToken::new(),
        );
        let api = serve_api(&app, self.api.listener, self.tls.as_deref());
        let metrics = serve_metrics(&app, &scrapers, self.metrics);
        tokio::pin!(metrics);
        let result = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            () = app.follow(catalog) => Err(RunError::CatalogLost),
            () = &mut metrics => Ok(()),
            () = self.renewing => Ok(()),
            () = api => Ok(()),
        };

        app.drain();
        let drain = async {
            clients.drain(app.config.drain_timeout).await;
            app.cut.cancel();
            clients.drain(LAST_WORDS).await;
            clients.close().await;
            app.dispatcher.cancelled.close();
            app.dispatcher.cancelled.wait().await;
        };
        // `/metrics` stays available until the last answer has ended.
        tokio::select! {
            () = drain => {}
            () = &mut metrics => {}
        }
        end_of_limits.cancel();
        limits.close();
        limits.wait().await;
        scrapers.close().await;
        app.dispatcher.fleet.stop().await;
        if let Some(stored) = &app.stored_keys {
            stored.stop().await;
        }
        result
    }
}

/// Serves clients while it is polled.
async fn serve_api(app: &Arc<App>, listener: TcpListener, tls: Option<&Tls>) {
    let serve = {
        let app = Arc::clone(app);
        move |peer, request| flow::serve(Arc::clone(&app), peer, request)
    };
    let clients = &app.connections;
    let telemetry = &app.telemetry;
    if let Some(tls) = tls {
        let handshake = |stream: Paced<TcpStream>| {
            let (shaking, telemetry) = (tls.handshake(stream), Arc::clone(telemetry));
            async { Ok::<_, io::Error>(Refusals::new(shaking.await?, telemetry)) }
        };
        return clients.accept(&listener, handshake, serve).await;
    }
    let no_handshake = |stream| ready(Ok(Refusals::new(stream, Arc::clone(telemetry))));
    clients.accept(&listener, no_handshake, serve).await;
}

/// Serves scrapers while it is polled.
async fn serve_metrics(app: &Arc<App>, scrapers: &Connections, bound: Option<Bound>) {
    let Some(bound) = bound else {
        return std::future::pending().await;
    };
    let app = Arc::clone(app);
    let serve = move |_, request| {
        let catalog = app.catalog();
        ready(scrape(&app.telemetry, &app.status(&catalog), &request))
    };
    scrapers.accept(&bound.listener, clear, serve).await;
}

// === impl Bound ===

impl Bound {
    async fn new(address: SocketAddr) -> Result<Self, BindError> {
        let bind = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind.await
            .map_err(|source| BindError::Listen { address, source })
    }
}
