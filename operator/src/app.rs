//! The life of the operator: leader election, controllers, metrics, shutdown.

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
use crate::lease::{Candidate, LeaseConfig};
use crate::metrics::{self, Metrics};
use crate::{accounts, claims, client, controller};

/// Why the operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No cluster is configured.
    #[error("cannot find the API server")]
    Connect(#[source] ConnectError),
    /// The API server does not answer.
    #[error("the API server does not answer")]
    Reach(#[source] kube::Error),
    /// The address for metrics cannot be bound.
    #[error("cannot listen for metrics")]
    Listen(#[source] io::Error),
}

/// Runs the operator until `stop` is cancelled.
///
/// # Errors
///
/// The cluster is not configured, the API server does not answer, or the address for metrics cannot be bound.
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
    tracing::info!(
        kubernetes = version.git_version,
        "connected to the API server"
    );
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

/// Acquires the Lease, works while it is held, and starts over when it is lost.
async fn lead(shared: &Shared, stop: &CancellationToken) {
    let config = &shared.config;
    let mut candidate = Candidate::new(
        shared.client.clone(),
        LeaseConfig::of_operators(&config.lease_namespace, &config.lease_name),
        config.identity.clone(),
    );
    while candidate.acquire(stop).await {
        let (identity, release) = (&config.identity, &config.release);
        tracing::info!(identity, release, "acquired the Lease; leading");
        shared.metrics.leading.set(1);
        // When the Lease is lost, all running work is dropped: another operator may lead.
        tokio::select! {
            () = candidate.keep(stop) => {}
            () = work(shared) => {}
        }
        shared.metrics.leading.set(0);
        if stop.is_cancelled() {
            candidate.release().await;
            return;
        }
        tracing::warn!("lost the Lease: another operator may lead");
    }
}

/// Reconciles the configured namespaces, except those that another release manages.
async fn work(shared: &Shared) {
    let (claims, keeper) = claims::of(&shared.client, &shared.config.release);
    let namespaces = &shared.config.namespaces;
    for namespace in namespaces {
        claims.owner(namespace);
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
