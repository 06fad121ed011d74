//! What an object says, checked: the same schemas and the same rules as for manifests in files.

use std::net::IpAddr;

use inferyard_catalog::{Endpoint, Plan};
use inferyard_crds::{ApiKeySpec, PlanSpec, Platform, Reach};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::{Kind, Object};
use inferyard_manifests::check_spec;
use inferyard_manifests::plan;

/// Where workers in pods listen.
const WORKER_PORT: u16 = 50051;

/// An object that can be linked.
#[derive(Debug)]
pub(crate) enum Meaning {
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
pub(crate) struct DeclaredModel {
    model: ModelNames,
    scaling: Scaling,
    /// Why the operator does not carry it out.
    pub(crate) refused: Option<String>,
    /// It is being deleted.
    pub(crate) leaving: bool,
}

/// What counts of a key.
#[derive(Debug)]
pub(crate) struct DeclaredKey {
    pub(crate) spec: ApiKeySpec,
    /// The hashes that are this key's by its status, which only the operator writes.
    pub(crate) hashes: Vec<String>,
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
pub(crate) struct WorkerPod {
    /// The `ModelDeployment`, in the pod's own namespace.
    pub(crate) model: Option<String>,
    /// The name that its worker serves; `None`: the declared one.
    #[serde(default)]
    pub(crate) serves: Option<String>,
    #[serde(default)]
    pub(crate) ready: bool,
    ip: Option<IpAddr>,
    running: bool,
    leaving: bool,
}

// === impl Meaning ===

impl Meaning {
    /// Reads an object; every mistake in it is in the error.
    pub(crate) fn read(kind: Kind, object: &Object, platform: &Platform) -> Result<Self, String> {
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
                let plan = plan::convert(&name, &spec, None, &mut report);
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
    pub(crate) fn name<'a>(&'a self, own: &'a str) -> &'a str {
        self.model.name.as_deref().unwrap_or(own)
    }

    pub(crate) fn aliases(&self) -> impl Iterator<Item = &str> {
        let aliases = self.model.aliases.iter().flatten();
        aliases.map(String::as_str)
    }

    /// Whether no worker is wanted.
    pub(crate) fn is_scaled_to_zero(&self) -> bool {
        self.scaling.replicas == Some(0)
    }
}

// === impl WorkerPod ===

impl WorkerPod {
    /// Where its worker listens, while it may be given work.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let ip = self.ip.filter(|_| self.running && !self.leaving)?;
        let address = std::net::SocketAddr::new(ip, WORKER_PORT);
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
