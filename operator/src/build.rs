//! What should exist for a model: objects, as they are applied. Nothing here reads a cluster or can fail.

mod container;
mod deployment;
mod engine;
mod weights;
mod template;
mod network;
mod overlay;

pub(crate) use overlay::key as overlay_key;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kind::Kind;
use crate::names::{MANAGED_BY, OWNER_LABEL, WORKER, child_name};
use crate::validate::{Budget, Validated};

/// The user that everything runs as: the one of the image.
const USER: i64 = 65532;
/// Where workers serve metrics.
const METRICS_PORT: u16 = 9090;

/// What should exist for a model, in the order in which it is applied.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) children: Vec<Child>,
    pub(crate) replicas: i32,
    /// The digest of the pods' template.
    pub(crate) template: String,
}

/// An object that should exist.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) object: Value,
}

/// Builds all of it.
pub(crate) fn build(model: &Validated) -> Wanted {
    let (template, digest) = deployment::template(model);
    let mut children = vec![
        child(
            model,
            Kind::ServiceAccount,
            json!({ "automountServiceAccountToken": false }),
        ),
        child(
            model,
            Kind::NetworkPolicy,
            json!({ "spec": network::policy(model) }),
        ),
        child(
            model,
            Kind::Deployment,
            json!({ "spec": deployment::spec(model, &template) }),
        ),
    ];
    if let Some(storage) = &model.storage {
        let mut spec = json!({
            "accessModes": [storage.access_mode.as_str()],
            "resources": { "requests": { "storage": storage.size } },
        });
        if let Some(class) = &storage.storage_class_name {
            spec["storageClassName"] = json!(class);
        }
        children.push(child(
            model,
            Kind::PersistentVolumeClaim,
            json!({ "spec": spec }),
        ));
    }
    if let Some(budget) = &model.budget {
        let (field, value) = match budget {
            Budget::MaxUnavailable(value) => ("maxUnavailable", value),
            Budget::MinAvailable(value) => ("minAvailable", value),
        };
        // A worker that does not answer anyway is not protected: it would block the emptying of its node.
        let spec = json!({
            field: value,
            "selector": { "matchLabels": selector(model) },
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        });
        children.push(child(
            model,
            Kind::PodDisruptionBudget,
            json!({ "spec": spec }),
        ));
    }
    children.sort_by_key(|child| child.kind);
    Wanted {
        children,
        replicas: model.replicas,
        template: digest,
    }
}

/// What tells one object from another that was written otherwise.
pub(crate) fn digest(object: &Value) -> String {
    let digest = Sha256::digest(object.to_string().as_bytes());
    let half = digest.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(half))
}

/// An object with its envelope: name, labels, and the owner with which it goes.
fn child(model: &Validated, kind: Kind, body: Value) -> Child {
    let resource = kind.resource();
    let name = child_name(&model.name);
    let mut object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": model.namespace,
            "labels": labels(model),
            "ownerReferences": [{
                "apiVersion": inferyard_crds::API_VERSION,
                "kind": "ModelDeployment",
                "name": model.name,
                "uid": model.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
    });
    if let (Value::Object(object), Value::Object(body)) = (&mut object, body) {
        object.extend(body);
    }
    Child { kind, name, object }
}

/// What the pods of a model are found by; it never changes.
pub(crate) fn selector(model: &Validated) -> Value {
    json!({ "app.kubernetes.io/name": WORKER, OWNER_LABEL: model.name })
}

fn labels(model: &Validated) -> Value {
    json!({
        "app.kubernetes.io/name": WORKER,
        "app.kubernetes.io/instance": model.name,
        "app.kubernetes.io/managed-by": MANAGED_BY,
        "app.kubernetes.io/part-of": "inferyard",
        OWNER_LABEL: model.name,
    })
}

#[cfg(test)]
mod tests;
