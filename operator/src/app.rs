//! The operator from start to end: leader, controllers, metrics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::{join, join_all};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::ConnectError;
use crate::config::Config;
use crate::controller::Shared;
use crate::lease::{Candidate, Slot};
use crate::metrics::{self, Metrics};
use crate::{accounts, claims, client, controller};

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no cluster to be found.
    #[error("cannot find the API server")]
    Connect(#[source] ConnectError),
    /// The API server does not answer.
    #[error("the API server does not answer")]
    Reach(#[source] kube::Error),
    /// Metrics cannot be served there.
    #[error("cannot listen for metrics")]
    Listen(#[source] io::Error),
}

/// Works until `stop` is cancelled.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::new());
    let connected = client::connect(config.kubeconfig.as_deref(), Arc::clone(&metrics)).await;
    let client = connected.map_err(StartError::Connect)?;
    let tasks = TaskTracker::new();
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address)
            .await
            .map_err(StartError::Listen)?;
        let served = metrics::serve(listener, Arc::clone(&metrics), stop.clone());
        tasks.spawn(served);
    }
    let version = client
        .apiserver_version()
        .await
        .map_err(StartError::Reach)?;
    tracing::info!(kubernetes = version.git_version, "the API server answers");
    metrics.started.store(true, Relaxed);
    let shared = Shared {
        client,
        config: Arc::new(config),
        metrics,
    };
    lead(&shared, &stop).await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Waits for the Lease, works while it is held, and begins anew when it is lost.
async fn lead(shared: &Shared, stop: &CancellationToken) {
    let config = &shared.config;
    let mut candidate = Candidate::new(
        shared.client.clone(),
        Slot::of_operators(&config.lease_namespace, &config.lease_name),
        config.identity.clone(),
    );
    while candidate.acquire(stop).await {
        let (identity, release) = (&config.identity, &config.release);
        tracing::info!(identity, release, "leading");
        shared.metrics.leading.set(1);
        // Whatever is under way when the lease is lost is dropped with it.
        tokio::select! {
            () = candidate.keep(stop) => {}
            () = work(shared) => {}
        }
        shared.metrics.leading.set(0);
        if stop.is_cancelled() {
            candidate.release().await;
            return;
        }
        tracing::warn!("the lease is lost: another operator may lead");
    }
}

/// All namespaces, as far as no other release looks after them.
async fn work(shared: &Shared) {
    let (claims, keeper) = claims::of(&shared.client, &shared.config.release);
    let namespaces = &shared.config.namespaces;
    for namespace in namespaces {
        claims.standing(namespace);
    }
    let mut scopes: Vec<_> = namespaces.iter().map(|name| Some(name.as_str())).collect();
    if scopes.is_empty() {
        scopes.push(None);
    }
    let started = scopes.into_iter();
    let started = started.map(|namespace| controller::start(shared, &claims, namespace));
    let (followed, working): (Vec<_>, Vec<_>) = started.unzip();
    let working = join(join_all(working), accounts::run(shared, &claims, followed));
    tokio::select! {
        () = keeper.keep() => {}
        _ = working => {}
    }
}
