//! Runs one watch per kind and namespace, and publishes a catalog whenever it differs from the last one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::Catalog;
use inferyard_crds::Platform;
use inferyard_kube_client::{ConfigError, config};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::link::{Linked, link};
use crate::metrics::Metrics;
use crate::object::{Kind, Object};
use crate::store::Store;
use crate::sync::{List, SyncState};
use crate::watch::{Change, ResourceWatch};

/// How long the first change waits for others before a catalog is published: changes come in groups (a rollout, a
/// `kubectl apply` of a folder).
const SETTLE: Duration = Duration::from_millis(50);
/// How long after a change the cache file is written; changes within this time are in the same write.
const BEFORE_CACHING: Duration = Duration::from_secs(1);
/// Capacity of the channel of changes; while it is full, the watches wait.
const ROOM: usize = 256;

/// The cluster, its watched namespaces, and the file that caches the last state.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces whose resources and pods are watched.
    pub namespaces: Namespaces,
    /// The namespaces of the platform. If empty: the only watched namespace or, if there are several, that of the pod or
    /// of the kubeconfig's context.
    pub platform: Vec<String>,
    /// A kubeconfig file; `None`: the one that kubectl would take, or the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// A file that caches the last state, for a start while the API server cannot be reached.
    pub cache: Option<PathBuf>,
}

/// The namespaces to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// That of the pod, or of the kubeconfig's context.
    Own,
    /// These; at least one.
    Listed(Vec<String>),
    /// All of them.
    All,
}

/// Why there is no client for the cluster. An API server that does not answer is not an error here: it is asked again
/// until it answers.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The credentials in the configuration cannot be used, such as a certificate that is not PEM.
    #[error("cannot use the credentials of the cluster")]
    Client(#[source] kube::Error),
}

/// Watches a cluster and publishes its catalog.
pub struct ClusterWatcher {
    client: Client,
    /// The watched namespaces; `None` stands for all.
    scopes: Vec<Option<Arc<str>>>,
    platform: Platform,
    cache: Option<Cache>,
    metrics: Metrics,
}

/// The state of a running watcher.
struct State {
    store: Store,
    sync: SyncState,
    /// The store has the state of the cluster, or that of the cache file.
    complete: bool,
    warnings: BTreeSet<String>,
    publish: Option<Instant>,
    save: Option<Instant>,
}

// === impl ClusterWatcher ===

impl ClusterWatcher {
    /// Finds the cluster and its credentials, and sends no request yet.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(settings: Settings, metrics: Metrics) -> Result<Self, ConnectError> {
        let mut config = config(settings.kubeconfig.as_deref()).await?;
        // A watch retries itself, with a pause, and counts each failure.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self::new(client, settings, metrics))
    }

    /// Watches the cluster of this client.
    pub(crate) fn new(client: Client, settings: Settings, metrics: Metrics) -> Self {
        let scopes = match settings.namespaces {
            Namespaces::Own => vec![Some(client.default_namespace().into())],
            Namespaces::All => vec![None],
            Namespaces::Listed(names) => {
                let names: BTreeSet<_> = names.into_iter().collect();
                names.into_iter().map(|name| Some(name.into())).collect()
            }
        };
        let platform = if settings.platform.is_empty() {
            let watched = scopes.iter().flatten().map(ToString::to_string);
            Platform::usual(&watched.collect::<Vec<_>>(), client.default_namespace())
        } else {
            Platform::new(settings.platform)
        };
        Self {
            client,
            scopes,
            platform,
            cache: settings.cache.map(Cache::new),
            metrics,
        }
    }

    /// Publishes a catalog whenever it differs from the one before, until `shutdown` is cancelled; then writes the cache
    /// file if a write is due, for two seconds at most.
    pub async fn run(mut self, catalogs: watch::Sender<Arc<Catalog>>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let (changes, mut seen) = mpsc::channel(ROOM);
        for (kind, scope) in self.lists() {
            let (metrics, changes) = (self.metrics.clone(), changes.clone());
            let watch = ResourceWatch::new(&self.client, kind, scope, metrics, changes);
            let end = shutdown.clone();
            tasks.spawn(async move { end.run_until_cancelled(watch.run()).await });
        }
        let mut state = State::new(&self);
        self.restore(&mut state);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(change) = seen.recv() => self.take(&mut state, change),
                () = at(state.publish) => self.publish(&mut state, &catalogs),
                () = at(state.save) => self.save(&mut state),
            }
        }
        if let Some(cache) = &mut self.cache {
            cache.saved().await;
            if state.save.is_some() && cache.save(&state.store) {
                cache.saved().await;
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    fn lists(&self) -> impl Iterator<Item = List> {
        let scopes = self.scopes.iter();
        scopes.flat_map(|scope| Kind::ALL.map(|kind| (kind, scope.clone())))
    }

    /// Starts with the state in the cache file, if there is one.
    fn restore(&self, state: &mut State) {
        let Some(cached) = self.cache.as_ref().and_then(Cache::load) else {
            return;
        };
        for (kind, objects) in cached.objects {
            let ours = objects.into_iter().filter(|object| self.covers(object));
            for object in ours {
                state.store.upsert(kind, object);
            }
        }
        tracing::warn!(
            age_seconds = cached.age.as_secs(),
            "starting with the cached state until the API server answers"
        );
        self.metrics.from_cache.set(1);
        state.complete = true;
        state.publish = Some(Instant::now());
    }

    fn covers(&self, object: &Object) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.any(|scope| {
            scope
                .as_deref()
                .is_none_or(|scope| scope == object.namespace)
        })
    }

    fn take(&self, state: &mut State, change: Change) {
        let was_synced = state.sync.is_synced();
        let (mut changed, unread_changed) = match change {
            Change::Listed { list, objects } => {
                let (kind, scope) = &list;
                let changed = state.store.replace(*kind, scope.as_deref(), objects);
                (changed, state.sync.listed(&list))
            }
            Change::Refused { list, why } => (false, state.sync.refused(list, why)),
            Change::Upserted(kind, object) => (state.store.upsert(kind, object), false),
            Change::Deleted(kind, id) => (state.store.remove(kind, &id), false),
        };
        if !was_synced && state.sync.is_synced() {
            // The state came from the cache file. Namespaces that may no longer be read are removed: their keys may have
            // been revoked.
            for (kind, scope) in state.sync.never_listed() {
                state.store.replace(*kind, scope.as_deref(), Vec::new());
            }
            (changed, state.complete) = (true, true);
            self.metrics.from_cache.set(0);
        }
        let now = Instant::now();
        if unread_changed || (changed && state.complete) {
            state.publish.get_or_insert(now + SETTLE);
        }
        if changed && self.cache.is_some() && state.sync.is_synced() {
            state.save.get_or_insert(now + BEFORE_CACHING);
        }
    }

    fn publish(&self, state: &mut State, catalogs: &watch::Sender<Arc<Catalog>>) {
        state.publish = None;
        let unread = state.sync.unread();
        self.metrics.unread.set(as_count(unread.len()));
        if !state.complete {
            let pending = Catalog {
                unread,
                ..Catalog::pending()
            };
            catalogs.send_replace(Arc::new(pending));
            return;
        }
        let Linked {
            mut catalog,
            warnings,
            ..
        } = link(&state.store);
        catalog.unread = unread;
        for warning in warnings.difference(&state.warnings) {
            tracing::warn!("{warning}");
        }
        self.metrics.mistakes.set(as_count(warnings.len()));
        state.warnings = warnings;
        let changed = catalogs.send_if_modified(|current| {
            let differs = **current != catalog;
            if differs {
                *current = Arc::new(catalog);
            }
            differs
        });
        if changed {
            let catalog = catalogs.borrow();
            let workers = catalog.models.values().map(|model| model.workers.len());
            let plans: BTreeSet<_> = catalog.plans.values().map(|plan| &plan.name).collect();
            tracing::info!(
                models = catalog.models.len(),
                workers = workers.sum::<usize>(),
                plans = plans.len(),
                keys = catalog.keys.len(),
                "published a new catalog"
            );
        }
    }

    fn save(&mut self, state: &mut State) {
        let saved = self
            .cache
            .as_mut()
            .is_none_or(|cache| cache.save(&state.store));
        state.save = (!saved).then(|| Instant::now() + BEFORE_CACHING);
    }
}

fn as_count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

// === impl State ===

impl State {
    fn new(cluster: &ClusterWatcher) -> Self {
        Self {
            store: Store::new(cluster.platform.clone()),
            sync: SyncState::new(cluster.lists()),
            complete: false,
            warnings: BTreeSet::new(),
            publish: None,
            save: None,
        }
    }
}
