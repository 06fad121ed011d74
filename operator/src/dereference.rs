//! What a declaration refers to: the names that it wants, and what belongs to it already.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_crds::{Claimant, ModelDeployment, owners};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::kind::Kind;
use crate::names::{MODEL_ANNOTATION, OWNER_LABEL, child_name};

/// What is known of the cluster, kept up to date by watches.
pub(crate) struct Caches {
    pub(crate) models: Store<DeserializeGuard<ModelDeployment>>,
    pub(crate) children: BTreeMap<Kind, Store<DynamicObject>>,
    pub(crate) pods: Store<Pod>,
}

/// A declaration with what it refers to.
pub(crate) struct Dereferenced {
    pub(crate) resource: Arc<ModelDeployment>,
    /// A name that it may not have, and who has it.
    pub(crate) taken: Option<Taken>,
    /// What exists under the names of its children, whoever made it.
    pub(crate) live: BTreeMap<Kind, Arc<DynamicObject>>,
    /// The pods that are or will be workers.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Pods that have ended for good, by an eviction for instance. Kubernetes keeps them for a while.
    pub(crate) over: Vec<Arc<Pod>>,
}

/// A name that belongs to another ModelDeployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) name: String,
    pub(crate) owner: String,
    /// No name is left by which callers reach the workers that run.
    pub(crate) all: bool,
}

// === impl Caches ===

impl Caches {
    /// Waits until all of it is known once: what is not seen yet would be taken for missing.
    pub(crate) async fn ready(&self) {
        // A store whose watch has ended is never ready, and then nothing is reconciled any more.
        let _ = self.pods.wait_until_ready().await;
        for store in self.children.values() {
            let _ = store.wait_until_ready().await;
        }
    }
}

/// Looks all of it up. Nothing here asks the API server.
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
    let (over, pods): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| is_over(pod));
    Dereferenced {
        taken: taken(resource, &pods, &caches.models),
        resource: Arc::clone(resource),
        live: live.collect(),
        pods,
        over,
    }
}

/// Whether a pod has ended for good: the ReplicaSet has another one in its place.
fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// The names by which callers reach a model.
pub(crate) fn names(resource: &ModelDeployment) -> impl Iterator<Item = &str> {
    let aliases = resource.spec.model.aliases.iter().map(String::as_str);
    std::iter::once(resource.model_name()).chain(aliases)
}

/// Namespace and name.
pub(crate) fn id<K: ResourceExt>(resource: &K) -> (String, String) {
    (
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}

/// A resource as one of several that claim a name.
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

/// A name of a namespace belongs to one of those who want it.
fn taken(
    resource: &ModelDeployment,
    pods: &[Arc<Pod>],
    all: &Store<DeserializeGuard<ModelDeployment>>,
) -> Option<Taken> {
    let namespace = resource.namespace();
    let rivals = all.state_filter(|other| other.namespace() == namespace);
    let rivals = rivals.iter().filter_map(|rival| rival.0.as_ref().ok());
    let claims = rivals.flat_map(|rival| {
        let claimant = claimant(rival, 0);
        names(rival).map(move |name| (name, claimant))
    });
    let (owners, own) = (owners(claims), claimant(resource, 0));
    let other = |name: &str| {
        let owner = owners.get(name)?;
        (!owner.is(own.namespace, own.name)).then_some(owner.name)
    };
    let (name, owner) = names(resource).find_map(|name| Some((name, other(name)?)))?;
    // Workers from before a new name was declared serve the old one, if nobody else wants it.
    let mut served = pods
        .iter()
        .filter_map(|pod| pod.annotations().get(MODEL_ANNOTATION));
    let is_left = |name: &str| other(name).is_none();
    Some(Taken {
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
            // It was renamed, and its workers serve the name before.
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
            let taken = taken(&second, &pods, &store).unwrap();
            let told = (taken.name.as_str(), taken.owner.as_str(), taken.all);
            assert_eq!(told, ("same", "first", all), "{aliases} {serves}");
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
        assert_eq!(names(&found.over), ["done", "evicted"]);
    }
}
