//! One object of a cluster, cut down to what a router needs of it: so it is kept, compared and cached.

use std::fmt;

use inferyard_crds::{ApiKey, MODEL_ANNOTATION, ModelDeployment, OWNER_LABEL, Plan};
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Models,
    Plans,
    Keys,
    Workers,
}

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What is kept of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Object {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Seconds since the Unix epoch.
    pub(super) created: u64,
    /// The `spec` of a plan, and the fields that count of any other kind.
    pub(super) spec: Value,
}

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Models, Self::Plans, Self::Keys, Self::Workers];

    /// As a person calls one of them.
    pub(super) fn singular(self) -> &'static str {
        match self {
            Self::Models => "ModelDeployment",
            Self::Plans => "Plan",
            Self::Keys => "ApiKey",
            Self::Workers => "Pod",
        }
    }

    /// As paths of the API and labels of metrics have it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Models => "modeldeployments",
            Self::Plans => "plans",
            Self::Keys => "apikeys",
            Self::Workers => "pods",
        }
    }

    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Models => ApiResource::erase::<ModelDeployment>(&()),
            Self::Plans => ApiResource::erase::<Plan>(&()),
            Self::Keys => ApiResource::erase::<ApiKey>(&()),
            Self::Workers => ApiResource::erase::<Pod>(&()),
        }
    }
}

// === impl Id ===

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Object ===

impl Object {
    pub(super) fn cut(kind: Kind, object: DynamicObject) -> Self {
        let DynamicObject {
            metadata, mut data, ..
        } = object;
        let spec = match kind {
            Kind::Models => json!({
                "model": {
                    "name": data["spec"]["model"]["name"].take(),
                    "aliases": data["spec"]["model"]["aliases"].take(),
                },
                "scaling": {"replicas": data["spec"]["scaling"]["replicas"].take()},
                "refused": refused(metadata.generation, &data["status"]),
                "leaving": metadata.deletion_timestamp.is_some(),
            }),
            Kind::Plans => data["spec"].take(),
            Kind::Keys => {
                let hashes = data["status"]["hashes"].take();
                json!({"spec": hashed(data), "hashes": hashes})
            }
            Kind::Workers => {
                let labels = metadata.labels.unwrap_or_default();
                let annotations = metadata.annotations.unwrap_or_default();
                json!({
                    "model": labels.get(OWNER_LABEL),
                    "serves": annotations.get(MODEL_ANNOTATION),
                    "ready": is_ready(&data["status"]),
                    "ip": data["status"]["podIP"].take(),
                    "running": data["status"]["phase"] == "Running",
                    "leaving": metadata.deletion_timestamp.is_some(),
                })
            }
        };
        let created = metadata
            .creation_timestamp
            .and_then(|moment| u64::try_from(moment.0.as_second()).ok());
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            created: created.unwrap_or(0),
            spec,
        }
    }

    pub(super) fn id(&self) -> Id {
        Id {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Whether a pod takes requests, as Kubernetes sees it.
fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|said| said["type"] == "Ready" && said["status"] == "True")
}

/// Why the operator does not carry out what a model declares now.
fn refused(generation: Option<i64>, status: &Value) -> Option<&str> {
    if status["observedGeneration"].as_i64() != generation {
        return None;
    }
    let mut conditions = status["conditions"].as_array()?.iter();
    let refused =
        conditions.find(|said| said["type"] == "Accepted" && said["status"] == "False")?;
    refused["reason"].as_str()
}

/// The `spec` of a key. The hash that the operator made of a Secret counts as if it were declared.
fn hashed(mut data: Value) -> Value {
    let mut spec = data["spec"].take();
    let made = data["status"]["hash"].take();
    if let Some(spec) = spec.as_object_mut()
        && made.is_string()
        && spec.remove("secret").is_some()
    {
        spec.insert("hash".to_owned(), made);
    }
    spec
}
