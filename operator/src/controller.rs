//! Watches that trigger reconciles: of models, of their objects and pods, and of models that claim the same names.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use inferyard_crds::{APPLICATION_LABEL, ModelDeployment, OWNER_LABEL, Reason, WORKER_APPLICATION};
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Config as ControllerConfig};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::apply::{MANAGER, NoopPatchCache};
use crate::claims::Claims;
use crate::config::Config;
use crate::dereference::{Caches, names};
use crate::events::Events;
use crate::kind::Kind;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::names::MANAGED_BY;
use crate::reconcile::{Context, ReconcileError, reconcile};
use crate::status;

/// Number of models that are reconciled at the same time.
const CONCURRENCY: u16 = 8;
/// Changes of one model within this time lead to one reconcile.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Time until a failed reconcile is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Interval at which the memory of deleted models is removed, whose deletion no watch has delivered.
const SWEEP: Duration = Duration::from_mins(10);

/// A ModelDeployment that may be unreadable. An unreadable one must not stop the watch of the others.
pub(crate) type Model = DeserializeGuard<ModelDeployment>;

type Triggers = SelectAll<BoxStream<'static, ObjectRef<Model>>>;

/// What all controllers share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The watched models of a scope, which the checks of plans and keys need too.
pub(crate) struct Followed<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) models: Store<Model>,
    /// Yields when a model has changed.
    pub(crate) changed: BoxStream<'static, ()>,
}

/// Starts the controller of one namespace, or of all. The controller works while the returned future is polled.
pub(crate) fn start<'a>(
    shared: &'a Shared,
    claims: &Arc<Claims>,
    namespace: Option<&'a str>,
) -> (Followed<'a>, impl Future<Output = ()> + use<>) {
    let scope = Scope { shared, namespace };
    let mut triggers = SelectAll::new();
    let (models, model_changes) = scope.reflect(scope.api::<Model>(), watcher::Config::default());
    let model_changes = model_changes.boxed();
    let workers = format!("{APPLICATION_LABEL}={WORKER_APPLICATION}");
    let (pods, of_pods) = scope.reflect(scope.api(), watcher::Config::default().labels(&workers));
    triggers.push(owners(of_pods));
    let made = format!("app.kubernetes.io/managed-by={MANAGED_BY}");
    let mut children = BTreeMap::new();
    for kind in Kind::ALL {
        let config = watcher::Config::default().labels(&made);
        let (store, of_kind) = scope.reflect_dynamic(kind, config);
        triggers.push(owners(of_kind));
        children.insert(kind, store);
    }
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: Some(shared.config.identity.clone()),
    };
    let context = Arc::new(Context {
        client: shared.client.clone(),
        config: Arc::clone(&shared.config),
        claims: Arc::clone(claims),
        caches: Caches {
            models: models.clone(),
            children,
            pods,
        },
        noop_patches: NoopPatchCache::default(),
        events: Events::new(shared.client.clone(), reporter),
        metrics: Arc::clone(&shared.metrics),
        memory: Memory::default(),
    });
    triggers.push(decided(claims, models.clone()));
    let (first, changed) = tee(model_changes);
    triggers.push(name_conflicts(first, Arc::clone(&context)).boxed());
    let followed = Followed {
        scope,
        models,
        changed,
    };
    (followed, work(context, triggers))
}

/// Reconciles what the triggers name.
async fn work(context: Arc<Context>, triggers: Triggers) {
    let store = context.caches.models.clone();
    let marking = Arc::clone(&context);
    let queue = triggers.map(move |model| {
        marking.memory.enqueue(&model, &marking.caches.models);
        Ok::<_, Infallible>(model)
    });
    let config = ControllerConfig::default()
        .concurrency(CONCURRENCY)
        .debounce(DEBOUNCE);
    let reconciler = |model, context| Box::pin(reconcile(model, context));
    let applied = Arc::clone(&context);
    let done = controller::applier(reconciler, retry, applied, store, queue, config);
    let mut done = pin!(done);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            result = done.next() => match result {
                // The model was deleted.
                Some(Ok(_) | Err(controller::Error::ObjectNotFound(_))) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "a reconcile failed and is retried");
                }
                None => return,
            },
            _ = sweep.tick() => context.sweep(),
        }
    }
}

fn retry(_: Arc<Model>, _: &ReconcileError, _: Arc<Context>) -> Action {
    Action::requeue(RETRY)
}

/// The models that changed objects belong to.
fn owners<K>(
    changes: impl Stream<Item = K> + Send + 'static,
) -> BoxStream<'static, ObjectRef<Model>>
where
    K: Resource + Send + 'static,
{
    let owners = changes.filter_map(|child| {
        let name = child.labels().get(OWNER_LABEL).cloned();
        let namespace = child.namespace().unwrap_or_default();
        std::future::ready(name.map(|name| ObjectRef::new(&name).within(&namespace)))
    });
    owners.boxed()
}

/// All models of a namespace, when the release that manages it has changed.
fn decided(claims: &Claims, models: Store<Model>) -> BoxStream<'static, ObjectRef<Model>> {
    let touched = claims.changes().map(move |changed| {
        let there = models.state_filter(|model| changed.is_none() || model.namespace() == changed);
        stream::iter(there.into_iter().map(|model| ObjectRef::from_obj(&*model)))
    });
    touched.flatten().boxed()
}

/// Each changed model, and the models that claim one of its names.
fn name_conflicts(
    changed: impl Stream<Item = Arc<Model>> + Send + 'static,
    context: Arc<Context>,
) -> impl Stream<Item = ObjectRef<Model>> + Send + 'static {
    let all = changed.map(move |model| {
        let caches = &context.caches;
        let namespace = model.namespace();
        let mut touched = vec![ObjectRef::from_obj(&*model)];
        if caches.models.get(&touched[0]).is_none() {
            context.forget(&model);
        }
        if let Ok(own) = &model.0 {
            let claimants = caches.models.state_filter(|other| {
                other.namespace() == namespace
                    && other.name_any() != model.name_any()
                    && (other.0.as_ref()).is_ok_and(|other| {
                        // The other model may wait for a name that this model had before the change.
                        waits_for_a_name(other)
                            || names(own).any(|name| names(other).any(|claimed| claimed == name))
                    })
            });
            touched.extend(claimants.iter().map(|other| ObjectRef::from_obj(&**other)));
        }
        stream::iter(touched)
    });
    all.flatten()
}

fn waits_for_a_name(model: &ModelDeployment) -> bool {
    let ready = model.status.as_ref().and_then(status::ready);
    ready.is_some_and(|ready| ready.reason == Reason::NameTaken.as_str())
}

/// Splits a stream for two readers. The second one learns only that something has changed.
fn tee(
    changed: BoxStream<'static, Model>,
) -> (
    impl Stream<Item = Arc<Model>> + Send + 'static,
    BoxStream<'static, ()>,
) {
    let (sender, receiver) = tokio::sync::watch::channel(());
    let first = changed.map(move |model| {
        sender.send_replace(());
        Arc::new(model)
    });
    let second = stream::unfold(receiver, |mut receiver| async {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    });
    (first, second.boxed())
}

/// The namespaces of a controller: one, or all.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    shared: &'a Shared,
    namespace: Option<&'a str>,
}

// === impl Scope ===

impl Scope<'_> {
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        let client = self.shared.client.clone();
        match self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    /// The cache of a watch, and the stream of the objects that change.
    pub(crate) fn reflect<K>(
        &self,
        api: Api<K>,
        config: watcher::Config,
    ) -> (Store<K>, impl Stream<Item = K> + Send + use<K>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let (store, writer) = reflector::store();
        (store, self.watch(api, config, writer))
    }

    fn reflect_dynamic(
        &self,
        kind: Kind,
        config: watcher::Config,
    ) -> (
        Store<DynamicObject>,
        impl Stream<Item = DynamicObject> + Send + use<>,
    ) {
        let resource = kind.resource();
        let client = self.shared.client.clone();
        let api = match self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let writer = Writer::new(resource);
        (writer.as_reader(), self.watch(api, config, writer))
    }

    fn watch<K>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        writer: Writer<K>,
    ) -> impl Stream<Item = K> + Send + use<K>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone + Send + Sync + Unpin,
    {
        let metrics = Arc::clone(&self.shared.metrics);
        let changes = watcher(api, config)
            .default_backoff()
            // The managed fields are most of the size of an object, and nothing here reads them.
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer)
            .touched_objects();
        changes.filter_map(move |change| {
            let seen = match change {
                Ok(object) => Some(object),
                Err(error) => {
                    metrics.watch_errors.inc();
                    tracing::warn!(%error, "a watch failed and is restarted");
                    None
                }
            };
            std::future::ready(seen)
        })
    }
}
