//! Checks the plans and keys of all namespaces against each other and against all models, and writes their status.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use inferyard_crds::{ApiKey, ModelDeployment, Plan};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::claims::Claims;
use crate::controller::{Followed, Shared};
use crate::dereference::id;
use crate::keys::Keys;
use crate::plans::Plans;
use crate::secrets::{self, Secrets};
use crate::status::write_accepted;

/// Time that a change waits for others, so that they are checked together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Number of statuses that are written at the same time.
const CONCURRENCY: usize = 8;

/// The caches of the watches.
struct Stores {
    models: Vec<Store<DeserializeGuard<ModelDeployment>>>,
    plans: Vec<Store<DeserializeGuard<Plan>>>,
    keys: Vec<Store<DeserializeGuard<ApiKey>>>,
}

/// Writes the status of all plans and keys until it is dropped.
pub(crate) async fn run(shared: &Shared, claims: &Claims, followed: Vec<Followed<'_>>) {
    let mut stores = Stores {
        models: Vec::new(),
        plans: Vec::new(),
        keys: Vec::new(),
    };
    let mut changes: SelectAll<BoxStream<'static, ()>> = SelectAll::new();
    for Followed {
        scope,
        models,
        changed: of_models,
    } in followed
    {
        let (plans, of_plans) = scope.reflect(scope.api(), watcher::Config::default());
        let (keys, of_keys) = scope.reflect(scope.api(), watcher::Config::default());
        stores.models.push(models);
        stores.plans.push(plans);
        stores.keys.push(keys);
        changes.push(of_plans.map(|_: DeserializeGuard<Plan>| ()).boxed());
        changes.push(of_keys.map(|_: DeserializeGuard<ApiKey>| ()).boxed());
        changes.push(of_models);
    }
    changes.push(claims.changes().map(|_| ()).boxed());
    let wakeup = Notify::new();
    // Reading the changes fills the caches, so it must go on while a check runs.
    let follow = async {
        while changes.next().await.is_some() {
            wakeup.notify_one();
        }
    };
    tokio::select! {
        () = follow => {}
        () = check(shared, claims, &stores, &wakeup) => {}
    }
}

/// Checks all plans and keys after each change, and re-reads all Secrets at an interval.
async fn check(shared: &Shared, claims: &Claims, stores: &Stores, wakeup: &Notify) {
    if !stores.are_ready().await {
        return;
    }
    let mut secrets = Secrets::default();
    let mut again = interval(secrets::REREAD);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let all = tokio::select! {
            () = wakeup.notified() => {
                sleep(DEBOUNCE).await;
                false
            }
            _ = again.tick() => true,
        };
        check_all(shared, claims, stores, &mut secrets, all).await;
    }
}

async fn check_all(
    shared: &Shared,
    claims: &Claims,
    stores: &Stores,
    secrets: &mut Secrets,
    all: bool,
) {
    let models = state(&stores.models);
    let (plans, keys) = (
        ours(claims, state(&stores.plans)),
        ours(claims, state(&stores.keys)),
    );
    let keys: Vec<_> = readable(&keys).collect();
    secrets.read(&shared.client, &keys, all).await;
    let platform = &shared.config.platform;
    let plans: Vec<_> = readable(&plans).collect();
    let checked = Plans::new(platform, &plans, readable(&models));
    let now = Timestamp::now();
    let due = plans.iter().filter_map(|plan| {
        let status = checked.status(plan, now);
        (plan.status.as_ref() != Some(&status)).then_some((*plan, status))
    });
    let write_plan = |(plan, status): (&Plan, _)| write(shared, "Plan", plan, status);
    stream::iter(due)
        .for_each_concurrent(CONCURRENCY, write_plan)
        .await;
    let keys = Keys::new(platform, &checked, &keys, secrets);
    let due = keys.statuses(now);
    let due = due.filter(|(key, status)| key.status.as_ref() != Some(status));
    let write_key = |(key, status): (&ApiKey, _)| write(shared, "ApiKey", key, status);
    stream::iter(due)
        .for_each_concurrent(CONCURRENCY, write_key)
        .await;
}

fn write<'a, K, S>(
    shared: &'a Shared,
    kind: &'static str,
    resource: &K,
    status: S,
) -> impl Future<Output = ()> + use<'a, K, S>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
    S: Serialize,
{
    let (namespace, name) = id(resource);
    async move {
        let api = Api::<K>::namespaced(shared.client.clone(), &namespace);
        let written = write_accepted(&api, kind, &name, &status).await;
        shared.metrics.reconciled(kind, written);
    }
}

// === impl Stores ===

impl Stores {
    /// Waits until each watch has delivered its first list. False: a watch has ended for good.
    async fn are_ready(&self) -> bool {
        are_ready(&self.models).await && are_ready(&self.plans).await && are_ready(&self.keys).await
    }
}

async fn are_ready<K>(stores: &[Store<DeserializeGuard<K>>]) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for store in stores {
        if store.wait_until_ready().await.is_err() {
            return false;
        }
    }
    true
}

type Guarded<K> = Arc<DeserializeGuard<K>>;

fn state<K>(stores: &[Store<DeserializeGuard<K>>]) -> Vec<Guarded<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    stores.iter().flat_map(Store::state).collect()
}

/// The resources in namespaces that this release manages.
fn ours<K: Resource>(claims: &Claims, mut all: Vec<Guarded<K>>) -> Vec<Guarded<K>> {
    all.retain(|guarded| claims.is_ours(&guarded.namespace().unwrap_or_default()));
    all
}

/// The readable resources. An unreadable one must not stop the check of the others.
fn readable<K>(guarded: &[Guarded<K>]) -> impl Iterator<Item = &K> {
    guarded.iter().filter_map(|guarded| guarded.0.as_ref().ok())
}
