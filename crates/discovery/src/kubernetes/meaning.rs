//! What an object says, checked: the same schemas and the same rules as for manifests in files.

use std::net::IpAddr;

use inferyard_catalog::{Endpoint, Plan};
use inferyard_crds::{ApiKeySpec, PlanSpec, Platform, Reach, WORKER_GRPC_PORT};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::object::{Kind, Object};
use crate::manifests::document::check_spec;
use crate::manifests::plan;

/// An object that can be linked.
#[derive(Debug)]
pub(super) enum Meaning {
    Model(DeclaredModel),
    Plan {
        /// Without its models and scopes.
        plan: Box<Plan>,
        /// As they are written: names or aliases.
        models: Option<Vec<String>>,
        reach: Reach,
        /// Why it may not be used.
        refusal: Option<String>,
    },
    Key(Box<DeclaredKey>),
    Worker(WorkerPod),
}

/// What counts of a model.
#[derive(Debug, Deserialize)]
pub(super) struct DeclaredModel {
    model: ModelNames,
    scaling: Scaling,
    /// Why the operator does not carry it out.
    pub(super) refused: Option<String>,
    /// It is being deleted.
    pub(super) leaving: bool,
}

/// What counts of a key.
#[derive(Debug)]
pub(super) struct DeclaredKey {
    pub(super) spec: ApiKeySpec,
    /// The hashes that are this key's by its status, which only the operator writes.
    pub(super) hashes: Vec<String>,
}

/// What callers name a model.
#[derive(Debug, Deserialize)]
struct ModelNames {
    name: Option<String>,
    #[serde(default)]
    aliases: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Scaling {
    replicas: Option<i64>,
}

/// A pod with a worker in it.
#[derive(Debug, Deserialize)]
pub(super) struct WorkerPod {
    /// The `ModelDeployment`, in the pod's own namespace.
    pub(super) model: Option<String>,
    /// The name that its worker serves; `None`: the declared one.
    #[serde(default)]
    pub(super) serves: Option<String>,
    #[serde(default)]
    pub(super) ready: bool,
    ip: Option<IpAddr>,
    running: bool,
    leaving: bool,
}

// === impl Meaning ===

impl Meaning {
    /// Reads an object; every mistake in it is in the error.
    pub(super) fn read(kind: Kind, object: &Object, platform: &Platform) -> Result<Self, String> {
        match kind {
            Kind::Models => {
                let mut violations = check_spec(kind.singular(), &object.spec);
                // Of the rest only the names are here.
                violations.retain(|found| {
                    found.path.starts_with("spec.model.name")
                        || found.path.starts_with("spec.model.aliases")
                });
                well(violations.into_iter().map(|it| (it.path, it.message)))?;
                typed(&object.spec).map(Self::Model)
            }
            Kind::Plans => {
                let spec: PlanSpec = checked(kind, &object.spec)?;
                let mut mistakes = Vec::new();
                let mut report = |path: &str, message| mistakes.push((path.to_owned(), message));
                let namespace = &object.namespace;
                let name = platform.called(namespace, &object.name);
                let plan = plan::plan(&name, &spec, None, &mut report);
                well(mistakes)?;
                Ok(Self::Plan {
                    plan: Box::new(plan),
                    reach: platform.reach(namespace, &spec),
                    refusal: platform.refusal(namespace, &spec),
                    models: spec.models,
                })
            }
            Kind::Keys => {
                let hashes = object.spec["hashes"].as_array().into_iter().flatten();
                let hashes = hashes.filter_map(Value::as_str).map(str::to_owned);
                let key = DeclaredKey {
                    spec: checked(kind, &object.spec["spec"])?,
                    hashes: hashes.collect(),
                };
                Ok(Self::Key(Box::new(key)))
            }
            Kind::Workers => typed(&object.spec).map(Self::Worker),
        }
    }
}

// === impl DeclaredModel ===

impl DeclaredModel {
    /// The canonical name; `own` is that of the resource.
    pub(super) fn name<'a>(&'a self, own: &'a str) -> &'a str {
        self.model.name.as_deref().unwrap_or(own)
    }

    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        let aliases = self.model.aliases.iter().flatten();
        aliases.map(String::as_str)
    }

    /// Whether no worker is wanted.
    pub(super) fn is_scaled_to_zero(&self) -> bool {
        self.scaling.replicas == Some(0)
    }
}

// === impl WorkerPod ===

impl WorkerPod {
    /// Where its worker listens, while it may be given work.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        let ip = self.ip.filter(|_| self.running && !self.leaving)?;
        let address = std::net::SocketAddr::new(ip, WORKER_GRPC_PORT);
        Some(Endpoint::Tcp(address.to_string().into()))
    }
}

fn checked<T: DeserializeOwned>(kind: Kind, spec: &Value) -> Result<T, String> {
    let violations = check_spec(kind.singular(), spec);
    well(violations.into_iter().map(|it| (it.path, it.message)))?;
    typed(spec)
}

fn typed<T: DeserializeOwned>(spec: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        format!("spec.{path}: {}", error.into_inner())
    })
}

fn well(mistakes: impl IntoIterator<Item = (String, String)>) -> Result<(), String> {
    let mistakes = mistakes.into_iter();
    let mistakes: Vec<_> = mistakes
        .map(|(path, message)| format!("{path}: {message}"))
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes.join("; "))
    }
}
