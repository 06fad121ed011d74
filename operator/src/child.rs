//! An object that belongs to a model, in its own type until it is sent to the API server as JSON.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::Value;

use crate::kind::Kind;

/// An object that should exist for a model.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) object: Object,
}

/// An object of one of the kinds that belong to a model.
#[derive(Debug)]
pub(crate) enum Object {
    ServiceAccount(ServiceAccount),
    NetworkPolicy(NetworkPolicy),
    // Boxed, because these are much larger than the others.
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    Deployment(Box<Deployment>),
    PodDisruptionBudget(PodDisruptionBudget),
}

// === impl Child ===

impl Child {
    pub(crate) fn new(name: String, object: Object) -> Self {
        Self { name, object }
    }

    pub(crate) fn kind(&self) -> Kind {
        match &self.object {
            Object::ServiceAccount(_) => Kind::ServiceAccount,
            Object::NetworkPolicy(_) => Kind::NetworkPolicy,
            Object::PersistentVolumeClaim(_) => Kind::PersistentVolumeClaim,
            Object::Deployment(_) => Kind::Deployment,
            Object::PodDisruptionBudget(_) => Kind::PodDisruptionBudget,
        }
    }

    /// The object as the API server receives it, with `apiVersion` and `kind`.
    pub(crate) fn to_json(&self) -> Value {
        let json = match &self.object {
            Object::ServiceAccount(object) => serde_json::to_value(object),
            Object::NetworkPolicy(object) => serde_json::to_value(object),
            Object::PersistentVolumeClaim(object) => serde_json::to_value(object),
            Object::Deployment(object) => serde_json::to_value(object),
            Object::PodDisruptionBudget(object) => serde_json::to_value(object),
        };
        json.expect("a Kubernetes object should be JSON")
    }
}
