//! The objects that should exist for a model, as typed Kubernetes objects. Nothing here reads a cluster or can fail.

mod container;
mod weights;
mod chat_template;
mod engine;
mod worker;
mod overlay;
mod deployment;
mod network;

use std::collections::BTreeMap;

use inferyard_crds::{APPLICATION_LABEL, OWNER_LABEL, WORKER_APPLICATION};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, ServiceAccount, VolumeResourceRequirements,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::child::{Child, Object};
use crate::names::{MANAGED_BY, child_name};
use crate::validate::{Budget, Validated};

/// The user and group ID of every container: the user of the image.
const USER: i64 = 65532;

/// The objects that should exist for a model.
#[derive(Debug)]
pub(crate) struct Desired {
    /// In the order in which they are applied.
    pub(crate) children: Vec<Child>,
    pub(crate) replicas: i32,
    /// The digest of the template of the pods.
    pub(crate) template: String,
}

/// Builds the objects of a model.
pub(crate) fn build(model: &Validated) -> Desired {
    let (template, digest) = deployment::template(model);
    let mut objects = vec![
        Object::ServiceAccount(ServiceAccount {
            metadata: metadata(model),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }),
        Object::NetworkPolicy(NetworkPolicy {
            metadata: metadata(model),
            spec: Some(network::policy(model)),
        }),
        Object::Deployment(Box::new(Deployment {
            metadata: metadata(model),
            spec: Some(deployment::spec(model, template)),
            status: None,
        })),
    ];
    objects.extend(volume_claim(model));
    objects.extend(disruption_budget(model));
    let name = child_name(&model.name);
    let children = objects.into_iter();
    let mut children: Vec<_> = children
        .map(|object| Child::new(name.clone(), object))
        .collect();
    children.sort_by_key(Child::kind);
    Desired {
        children,
        replicas: model.replicas,
        template: digest,
    }
}

/// The claim on a volume for fetched weights.
fn volume_claim(model: &Validated) -> Option<Object> {
    let storage = model.storage.as_ref()?;
    let size = Quantity(storage.size.clone());
    Some(Object::PersistentVolumeClaim(Box::new(
        PersistentVolumeClaim {
            metadata: metadata(model),
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec![storage.access_mode.as_str().to_owned()]),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                    limits: None,
                }),
                storage_class_name: storage.storage_class_name.clone(),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        },
    )))
}

/// The disruption budget. It does not protect a worker that does not answer, which would block the drain of its node.
fn disruption_budget(model: &Validated) -> Option<Object> {
    let (max_unavailable, min_available) = match model.budget.clone()? {
        Budget::MaxUnavailable(value) => (Some(value), None),
        Budget::MinAvailable(value) => (None, Some(value)),
    };
    Some(Object::PodDisruptionBudget(PodDisruptionBudget {
        metadata: metadata(model),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable,
            min_available,
            selector: Some(selector(model)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    }))
}

/// The digest of an object: 16 hexadecimal digits. The fields of a type, and the keys of its maps, have a fixed order,
/// so equal objects have equal digests.
pub(crate) fn digest(object: &impl Serialize) -> String {
    let text = serde_json::to_vec(object).expect("a Kubernetes object should be JSON");
    let digest = Sha256::digest(text);
    let half = digest.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(half))
}

/// The metadata of every object of a model. The owner reference lets Kubernetes delete the object with its model.
fn metadata(model: &Validated) -> ObjectMeta {
    ObjectMeta {
        name: Some(child_name(&model.name)),
        namespace: Some(model.namespace.clone()),
        labels: Some(labels(model)),
        owner_references: Some(vec![OwnerReference {
            api_version: inferyard_crds::API_VERSION.to_owned(),
            kind: "ModelDeployment".to_owned(),
            name: model.name.clone(),
            uid: model.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The selector of the pods of a model. It never changes: Kubernetes does not let the selector of a Deployment change.
fn selector(model: &Validated) -> LabelSelector {
    let labels = [
        (APPLICATION_LABEL, WORKER_APPLICATION),
        (OWNER_LABEL, &model.name),
    ];
    LabelSelector {
        match_labels: Some(owned(labels)),
        ..LabelSelector::default()
    }
}

fn labels(model: &Validated) -> BTreeMap<String, String> {
    owned([
        (APPLICATION_LABEL, WORKER_APPLICATION),
        ("app.kubernetes.io/instance", &model.name),
        ("app.kubernetes.io/managed-by", MANAGED_BY),
        ("app.kubernetes.io/part-of", "inferyard"),
        (OWNER_LABEL, &model.name),
    ])
}

fn owned<const N: usize>(labels: [(&str, &str); N]) -> BTreeMap<String, String> {
    let owned = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    BTreeMap::from(owned)
}

#[cfg(test)]
mod tests;
