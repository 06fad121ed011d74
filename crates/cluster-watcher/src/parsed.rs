//! An object, checked against the schemas and rules of manifests, and converted to types.

use std::net::IpAddr;

use inferyard_catalog::{Endpoint, Plan};
use inferyard_crds::{ApiKeySpec, PlanSpec, Platform, Reach, WORKER_GRPC_PORT};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::{Kind, Object};
use inferyard_manifests::check_spec;
use inferyard_manifests::plan;

/// An object that can be linked.
#[derive(Debug)]
pub(crate) enum Parsed {
    Model(DeclaredModel),
    Plan {
        /// `link` sets its models and scopes.
        plan: Box<Plan>,
        /// Names or aliases of models, as declared.
        models: Option<Vec<String>>,
        reach: Reach,
        /// The reason why a plan of its namespace may not claim this; `None` if it may.
        refusal: Option<String>,
    },
    Key(Box<DeclaredKey>),
    Worker(WorkerPod),
}

/// The fields of a `ModelDeployment` that count.
#[derive(Debug, Deserialize)]
pub(crate) struct DeclaredModel {
    model: ModelNames,
    scaling: Scaling,
    /// The reason why the operator refuses it.
    pub(crate) refused: Option<String>,
    /// It has a deletion timestamp.
    pub(crate) leaving: bool,
}

/// The fields of an `ApiKey` that count.
#[derive(Debug)]
pub(crate) struct DeclaredKey {
    pub(crate) spec: ApiKeySpec,
    /// The hashes that the operator has recorded for this key in its status.
    pub(crate) hashes: Vec<String>,
}

/// The names by which callers reach a model.
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

/// A worker pod.
#[derive(Debug, Deserialize)]
pub(crate) struct WorkerPod {
    /// The name of its `ModelDeployment`, in the pod's namespace.
    pub(crate) model: Option<String>,
    /// The model name that its worker serves; `None`: the declared one.
    #[serde(default)]
    pub(crate) serves: Option<String>,
    #[serde(default)]
    pub(crate) ready: bool,
    ip: Option<IpAddr>,
    running: bool,
    leaving: bool,
}

// === impl Parsed ===

impl Parsed {
    /// Checks and converts an object. The error lists all mistakes.
    pub(crate) fn parse(kind: Kind, object: &Object, platform: &Platform) -> Result<Self, String> {
        match kind {
            Kind::Models => {
                let mut violations = check_spec(kind.singular(), &object.spec);
                // The object has no other fields of the spec, so their absence is no mistake.
                violations.retain(|found| {
                    found.path.starts_with("spec.model.name")
                        || found.path.starts_with("spec.model.aliases")
                });
                ok_if_empty(violations.into_iter().map(|it| (it.path, it.message)))?;
                typed(&object.spec).map(Self::Model)
            }
            Kind::Plans => {
                let spec: PlanSpec = checked(kind, &object.spec)?;
                let mut mistakes = Vec::new();
                let mut report = |path: &str, message| mistakes.push((path.to_owned(), message));
                let namespace = &object.namespace;
                let name = platform.called(namespace, &object.name);
                let plan = plan::convert(&name, &spec, None, &mut report);
                ok_if_empty(mistakes)?;
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
    /// The canonical name of the model; without one it is `resource`, the name of the resource.
    pub(crate) fn name<'a>(&'a self, resource: &'a str) -> &'a str {
        self.model.name.as_deref().unwrap_or(resource)
    }

    pub(crate) fn aliases(&self) -> impl Iterator<Item = &str> {
        let aliases = self.model.aliases.iter().flatten();
        aliases.map(String::as_str)
    }

    /// Whether it declares 0 replicas.
    pub(crate) fn is_scaled_to_zero(&self) -> bool {
        self.scaling.replicas == Some(0)
    }
}

// === impl WorkerPod ===

impl WorkerPod {
    /// The address of its worker; `None` unless the pod runs, has an IP and is not being deleted.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let ip = self.ip.filter(|_| self.running && !self.leaving)?;
        let address = std::net::SocketAddr::new(ip, WORKER_GRPC_PORT);
        Some(Endpoint::Tcp(address.to_string().into()))
    }
}

fn checked<T: DeserializeOwned>(kind: Kind, spec: &Value) -> Result<T, String> {
    let violations = check_spec(kind.singular(), spec);
    ok_if_empty(violations.into_iter().map(|it| (it.path, it.message)))?;
    typed(spec)
}

fn typed<T: DeserializeOwned>(spec: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(spec).map_err(|error| {
        let path = error.path().to_string();
        format!("spec.{path}: {}", error.into_inner())
    })
}

fn ok_if_empty(mistakes: impl IntoIterator<Item = (String, String)>) -> Result<(), String> {
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
