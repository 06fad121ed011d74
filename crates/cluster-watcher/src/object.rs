//! One object of a cluster, reduced to the fields that a router needs; in this form it is stored, compared and cached.

use std::fmt;

use inferyard_crds::{ApiKey, MODEL_ANNOTATION, ModelDeployment, OWNER_LABEL, Plan};
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kinds that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Models,
    Plans,
    Keys,
    Workers,
}

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The fields of an object that count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Seconds since the Unix epoch.
    pub(crate) created: u64,
    /// The whole `spec` of a plan; of the other kinds, the fields that `from_resource` selects.
    pub(crate) spec: Value,
}

// === impl Kind ===

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Models, Self::Plans, Self::Keys, Self::Workers];

    /// The name of the kind, as in a manifest.
    pub(crate) fn singular(self) -> &'static str {
        match self {
            Self::Models => "ModelDeployment",
            Self::Plans => "Plan",
            Self::Keys => "ApiKey",
            Self::Workers => "Pod",
        }
    }

    /// The plural, as in paths of the API and in labels of metrics.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Models => "modeldeployments",
            Self::Plans => "plans",
            Self::Keys => "apikeys",
            Self::Workers => "pods",
        }
    }

    pub(crate) fn resource(self) -> ApiResource {
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
    pub(crate) fn from_resource(kind: Kind, object: DynamicObject) -> Self {
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

    pub(crate) fn id(&self) -> Id {
        Id {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Whether the pod's condition `Ready` is true.
fn is_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The reason why the operator refuses the current generation of a model; `None` if it does not.
fn refused(generation: Option<i64>, status: &Value) -> Option<&str> {
    if status["observedGeneration"].as_i64() != generation {
        return None;
    }
    let mut conditions = status["conditions"].as_array()?.iter();
    let refused = conditions
        .find(|condition| condition["type"] == "Accepted" && condition["status"] == "False")?;
    refused["reason"].as_str()
}

/// The `spec` of a key, in which the hash that the operator computed replaces the reference to a Secret.
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
