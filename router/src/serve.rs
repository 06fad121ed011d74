//! A router's life: bind, serve, drain, end.

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

/// How long answers have to send their error frame after they were cut: a worker has two seconds to
/// say what it had produced for them.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// A router that has its ports but serves nothing yet.
pub struct Router {
    app: Arc<App>,
    api: Bound,
    metrics: Option<Bound>,
    tls: Option<Arc<Tls>>,
    /// Keeps the certificate fresh.
    renewing: Renewing,
}

type Renewing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why a router cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It has not its ports.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot keep limits, or record placements.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a router ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The other end of the catalog is gone, so that no change would ever arrive.
    #[error("discovery has ended, so that changes of models and keys would go unnoticed")]
    CatalogLost,
}

// === impl Router ===

impl Router {
    /// Takes the ports, and the folder in which what was used waits for Redis.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        Self::bind_with(config, |_| ()).await
    }

    /// The same; `register` adds metrics to those of the router.
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

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.api.address
    }

    /// Where `/metrics` listens.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|bound| bound.address)
    }

    /// Serves until `shutdown` is cancelled, and then ends in order: not ready, no new connections,
    /// running answers to their end or to the end of the drain time, error frames for the rest, and
    /// what they used is where it cannot be lost.
    /// The sender of the catalog must live as long.
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
        // A scraper may look on until the last answer has ended.
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

/// Answers clients for as long as it is polled.
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

/// Answers scrapers for as long as it is polled.
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
