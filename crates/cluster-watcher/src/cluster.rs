//! The router's catalog from a cluster: what is declared there, and the pods that serve it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inferyard_catalog::Catalog;
use inferyard_crds::Platform;
use kube::config::{InferConfigError, KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::known::Known;
use crate::link::{Linked, link};
use crate::lists::{List, Lists};
use crate::metrics::Metrics;
use crate::object::{Kind, Object};
use crate::watch::{Change, ResourceWatch};

/// Changes come in crowds (a rollout, a `kubectl apply` of a folder): so long the first one waits for the
/// others.
const SETTLE: Duration = Duration::from_millis(50);
/// The file is written so long after a change; what comes in the meantime goes with it.
const BEFORE_CACHING: Duration = Duration::from_secs(1);
/// Changes that may wait to be taken; beyond that, the watches wait.
const ROOM: usize = 256;

/// Which part of a cluster a router serves, and what it keeps of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces whose resources and pods count.
    pub namespaces: Namespaces,
    /// The namespaces of the platform; none: the only namespace that counts, or else that of the pod or of the context
    /// of the kubeconfig.
    pub platform: Vec<String>,
    /// A kubeconfig file; `None`: the one that kubectl would take, or the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// A file that keeps what was known, for a start while the API server is away.
    pub cache: Option<PathBuf>,
}

/// Namespaces of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// That of the pod, or of the context of the kubeconfig.
    Own,
    /// These; at least one.
    Listed(Vec<String>),
    /// All of them.
    All,
}

/// Why a router cannot speak to a cluster at all. (That the API server does not answer is no reason: it is
/// asked until it does.)
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig and no service account.
    #[error(
        "there is no kubeconfig and no service account: run it in a pod, or set KUBECONFIG or --kubeconfig"
    )]
    Infer(#[source] InferConfigError),
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// What the configuration says cannot be used.
    #[error("cannot use the credentials of the cluster")]
    Client(#[source] kube::Error),
}

/// A cluster that is followed.
pub struct Kubernetes {
    client: Client,
    /// One for each namespace that is watched; `None`: all.
    scopes: Vec<Option<Arc<str>>>,
    platform: Platform,
    cache: Option<Cache>,
    metrics: Metrics,
}

/// What is known and what of it is still to be told.
struct State {
    known: Known,
    lists: Lists,
    /// A catalog may be made of what is known.
    complete: bool,
    complaints: BTreeSet<String>,
    publish: Option<Instant>,
    save: Option<Instant>,
}

// === impl Kubernetes ===

impl Kubernetes {
    /// Finds the cluster and its credentials; asks it nothing yet.
    pub async fn connect(settings: Settings, metrics: Metrics) -> Result<Self, ConnectError> {
        let mut config = match &settings.kubeconfig {
            None => Config::infer().await.map_err(ConnectError::Infer)?,
            Some(path) => {
                let failed = |source| ConnectError::Kubeconfig {
                    path: path.clone(),
                    source,
                };
                let file = kube::config::Kubeconfig::read_from(path).map_err(failed)?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(failed)?
            }
        };
        // A watch asks again itself, and counts each failure.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self::new(client, settings, metrics))
    }

    /// Follows what this client reaches.
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

    /// Hands out a catalog whenever it differs from the one before, until `shutdown` is cancelled.
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
            if state.save.is_some() && cache.save(&state.known) {
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

    /// Begins with what an earlier life knew.
    fn restore(&self, state: &mut State) {
        let Some(cached) = self.cache.as_ref().and_then(Cache::load) else {
            return;
        };
        for (kind, objects) in cached.objects {
            let ours = objects.into_iter().filter(|object| self.covers(object));
            for object in ours {
                state.known.put(kind, object);
            }
        }
        tracing::warn!(
            age_seconds = cached.age.as_secs(),
            "starting with what was known before, until the API server answers"
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
        let was_settled = state.lists.settled();
        let (mut changed, said) = match change {
            Change::Listed { list, objects } => {
                let (kind, scope) = &list;
                let changed = state.known.replace(*kind, scope.as_deref(), objects);
                (changed, state.lists.given(&list))
            }
            Change::Refused { list, why } => (false, state.lists.refused(list, why)),
            Change::Upserted(kind, object) => (state.known.put(kind, object), false),
            Change::Deleted(kind, id) => (state.known.remove(kind, &id), false),
        };
        if !was_settled && state.lists.settled() {
            // What an earlier life knew of namespaces that may not be read any more is no longer in force.
            for (kind, scope) in state.lists.missing() {
                state.known.replace(*kind, scope.as_deref(), Vec::new());
            }
            (changed, state.complete) = (true, true);
            self.metrics.from_cache.set(0);
        }
        let now = Instant::now();
        if said || changed && state.complete {
            state.publish.get_or_insert(now + SETTLE);
        }
        if changed && self.cache.is_some() && state.lists.settled() {
            state.save.get_or_insert(now + BEFORE_CACHING);
        }
    }

    fn publish(&self, state: &mut State, catalogs: &watch::Sender<Arc<Catalog>>) {
        state.publish = None;
        let unread = state.lists.unread();
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
            complaints,
            ..
        } = link(&state.known);
        catalog.unread = unread;
        for complaint in complaints.difference(&state.complaints) {
            tracing::warn!("{complaint}");
        }
        self.metrics.mistakes.set(as_count(complaints.len()));
        state.complaints = complaints;
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
                "a new catalog"
            );
        }
    }

    fn save(&mut self, state: &mut State) {
        let saved = self
            .cache
            .as_mut()
            .is_none_or(|cache| cache.save(&state.known));
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
    fn new(cluster: &Kubernetes) -> Self {
        Self {
            known: Known::new(cluster.platform.clone()),
            lists: Lists::new(cluster.lists()),
            complete: false,
            complaints: BTreeSet::new(),
            publish: None,
            save: None,
        }
    }
}
