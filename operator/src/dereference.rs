//! Looks up what a declaration refers to: its names, its existing objects, and its pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_crds::{Claimant, MODEL_ANNOTATION, ModelDeployment, OWNER_LABEL, owners};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::kind::Kind;
use crate::names::child_name;
use crate::pods;

/// The state of the cluster, kept up to date by watches.
pub(crate) struct Caches {
    pub(crate) models: Store<DeserializeGuard<ModelDeployment>>,
    pub(crate) children: BTreeMap<Kind, Store<DynamicObject>>,
    pub(crate) pods: Store<Pod>,
}

/// A declaration with everything that it refers to.
pub(crate) struct Dereferenced {
    pub(crate) resource: Arc<ModelDeployment>,
    /// A declared name that another ModelDeployment has.
    pub(crate) name_conflict: Option<NameConflict>,
    /// The objects that exist under the names of its children, whoever created them.
    pub(crate) live: BTreeMap<Kind, Arc<DynamicObject>>,
    /// The pods of workers, ready or not.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Pods that have ended for good, for example by an eviction. Kubernetes keeps them for a while.
    pub(crate) ended: Vec<Arc<Pod>>,
}

/// A name that another ModelDeployment owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameConflict {
    pub(crate) name: String,
    pub(crate) owner: String,
    /// Whether no name is left by which callers reach the running workers.
    pub(crate) all: bool,
}

// === impl Caches ===

impl Caches {
    /// Waits until each watch has delivered its first list. Before that, an object that was not seen yet looks like a
    /// missing one.
    pub(crate) async fn ready(&self) {
        // An error means that the watch has ended. Then the operator is shutting down.
        let _ = self.pods.wait_until_ready().await;
        for store in self.children.values() {
            let _ = store.wait_until_ready().await;
        }
    }
}

/// Looks up everything in the caches. Nothing here calls the API server.
pub(crate) fn dereference(resource: &Arc<ModelDeployment>, caches: &Caches) -> Dereferenced {
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let child = child_name(&name);
    let live = caches.children.iter().filter_map(|(kind, store)| {
        let key = ObjectRef::new_with(&child, kind.resource()).within(&namespace);
        Some((*kind, store.get(&key)?))
    });
    let own = |pod: &Pod| {
        pod.namespace().as_deref() == Some(&namespace)
            && pod.labels().get(OWNER_LABEL) == Some(&name)
            && pod.metadata.deletion_timestamp.is_none()
    };
    let mut pods = caches.pods.state_filter(own);
    pods.sort_by_key(|pod| pod.name_any());
    let (ended, pods): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pods::has_ended(pod));
    Dereferenced {
        name_conflict: name_conflict(resource, &pods, &caches.models),
        resource: Arc::clone(resource),
        live: live.collect(),
        pods,
        ended,
    }
}

/// The name and the aliases of a model.
pub(crate) fn names(resource: &ModelDeployment) -> impl Iterator<Item = &str> {
    let aliases = resource.spec.model.aliases.iter().map(String::as_str);
    std::iter::once(resource.model_name()).chain(aliases)
}

/// The namespace and the name of a resource.
pub(crate) fn id<K: ResourceExt>(resource: &K) -> (String, String) {
    (
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}

/// A resource as a claimant of a name.
pub(crate) fn claimant<K: ResourceExt>(resource: &K, rank: usize) -> Claimant<'_> {
    let metadata = resource.meta();
    let created = metadata.creation_timestamp.as_ref();
    Claimant {
        rank,
        leaving: metadata.deletion_timestamp.is_some(),
        created: created.map_or(0, |moment| moment.0.as_second()),
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
    }
}

/// The first declared name that an older ModelDeployment of the namespace owns.
fn name_conflict(
    resource: &ModelDeployment,
    pods: &[Arc<Pod>],
    all: &Store<DeserializeGuard<ModelDeployment>>,
) -> Option<NameConflict> {
    let namespace = resource.namespace();
    let models = all.state_filter(|other| other.namespace() == namespace);
    let models = models.iter().filter_map(|model| model.0.as_ref().ok());
    let claims = models.flat_map(|model| {
        let claimant = claimant(model, 0);
        names(model).map(move |name| (name, claimant))
    });
    let (owners, own) = (owners(claims), claimant(resource, 0));
    let other = |name: &str| {
        let owner = owners.get(name)?;
        (!owner.is(own.namespace, own.name)).then_some(owner.name)
    };
    let (name, owner) = names(resource).find_map(|name| Some((name, other(name)?)))?;
    // After a rename, old workers serve the previous name until another model claims it.
    let mut served = pods
        .iter()
        .filter_map(|pod| pod.annotations().get(MODEL_ANNOTATION));
    let is_left = |name: &str| other(name).is_none();
    Some(NameConflict {
        name: name.to_owned(),
        owner: owner.to_owned(),
        all: !names(resource).any(is_left) && !served.any(|name| is_left(name)),
    })
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;
    use crate::validate::tests::resource;

    #[test]
    fn a_model_may_have_lost_all_of_its_names() {
        let declared = |name: &str, age: u32, model: &serde_json::Value| {
            let mut found = resource(&json!({ "model": model }));
            found.metadata.name = Some(name.to_owned());
            let created = format!("2024-01-01T00:00:0{}Z", 9 - age);
            found.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
            found
        };
        let source = json!({ "builtin": { "name": "demo" } });
        let first = json!({ "name": "same", "aliases": ["alias"], "source": source });
        for (aliases, serves, all) in [
            (json!([]), "same", true),
            (json!(["alias"]), "same", true),
            (json!(["own"]), "same", false),
            // It was renamed, and its workers serve the previous name.
            (json!([]), "before", false),
        ] {
            let second = json!({ "name": "same", "aliases": aliases, "source": source });
            let second = declared("second", 1, &second);
            let (store, mut writer) = reflector::store();
            for model in [&declared("first", 2, &first), &second] {
                let guarded = serde_json::from_value(json!(model)).unwrap();
                writer.apply_watcher_event(&watcher::Event::Apply(guarded));
            }
            let pod = json!({ "metadata": { "annotations": { MODEL_ANNOTATION: serves } } });
            let pods = [Arc::new(serde_json::from_value(pod).unwrap())];
            let found = name_conflict(&second, &pods, &store).unwrap();
            let found = (found.name.as_str(), found.owner.as_str(), found.all);
            assert_eq!(found, ("same", "first", all), "{aliases} {serves}");
        }
    }

    #[test]
    fn a_pod_that_has_ended_for_good_is_no_worker() {
        let (models, _) = reflector::store();
        let (pods, mut writer) = reflector::store();
        for (name, phase) in [
            ("evicted", "Failed"),
            ("done", "Succeeded"),
            ("serves", "Running"),
            ("waits", "Pending"),
        ] {
            let pod = json!({
                "metadata": { "name": name, "namespace": "models", "labels": { OWNER_LABEL: "demo" } },
                "status": { "phase": phase },
            });
            let pod = serde_json::from_value(pod).unwrap();
            writer.apply_watcher_event(&watcher::Event::Apply(pod));
        }
        let caches = Caches {
            models,
            children: BTreeMap::new(),
            pods,
        };
        let spec = json!({ "model": { "source": { "builtin": { "name": "demo" } } } });
        let found = dereference(&Arc::new(resource(&spec)), &caches);
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
        assert_eq!(names(&found.pods), ["serves", "waits"]);
        assert_eq!(names(&found.ended), ["done", "evicted"]);
    }
}
