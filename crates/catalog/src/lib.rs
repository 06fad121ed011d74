//! What the router serves and to whom: the checked view of what manifests or a cluster declare.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use inferyard_keys::KeyHash;

mod model;
mod plan;

pub use model::{Model, Stopped};
pub use plan::{Limits, OnLoss, Plan, Preview, Price, Queue};

/// The scope of names where all models are of one scope: where manifests in files declare them.
pub const ONE_SCOPE: &str = "";

/// Models, plans and keys at one moment. A new one replaces the old one whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Nothing is known yet: nobody is refused for what this catalog lacks, and all are asked to come
    /// back. Only a router's first catalog may say so.
    pub pending: bool,
    /// Declared models, by id.
    pub models: BTreeMap<Arc<str>, Arc<Model>>,
    /// The names and aliases by which callers reach models, by scope: ids of models. A plan says in which scopes its
    /// callers' names are looked up.
    pub names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<str>>>,
    /// Keys, by the SHA-256 of their text.
    pub keys: BTreeMap<KeyHash, Arc<Key>>,
    /// Keys that are good, but whose plan cannot be used, by the SHA-256 of their text.
    pub keys_without_plan: BTreeMap<KeyHash, KeyWithoutPlan>,
    /// Plans, by every name that keys of a key store may give: for those, and for callers without a key.
    pub plans: BTreeMap<Arc<str>, Arc<Plan>>,
    /// Namespaces that cannot be read, with the reason, for the readiness details.
    pub unread: BTreeMap<Arc<str>, Arc<str>>,
}

/// Where a worker listens for gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `host:port`, clear text HTTP/2.
    Tcp(Arc<str>),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An API key, known by its hash alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Name of the key, for logs and metering.
    pub name: Arc<str>,
    /// Account that pays and whose cached prefixes it shares.
    pub account: Arc<str>,
    /// The plan it is on.
    pub plan: Arc<Plan>,
    /// From then on it is refused.
    pub expires: Option<SystemTime>,
    /// Refused at once.
    pub disabled: bool,
    /// Limits of this key alone, below those of its plan.
    pub limits: Option<Limits>,
}

/// What is known of a key whose plan cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWithoutPlan {
    /// Name of the plan.
    pub plan: Arc<str>,
    /// Whether the plan is there, and is refused because it grants what only the platform's plans may.
    pub is_refused: bool,
    /// From then on the key is refused anyway.
    pub expires: Option<SystemTime>,
    /// The key is refused anyway.
    pub disabled: bool,
}

// === impl Catalog ===

impl Catalog {
    /// What a router has before it knows anything.
    #[must_use]
    pub fn pending() -> Self {
        Self {
            pending: true,
            ..Self::default()
        }
    }

    /// Adds a model, and the names by which it is reached in a scope. Its own name is one only if it is listed.
    pub fn add(
        &mut self,
        scope: &Arc<str>,
        model: Model,
        names: impl IntoIterator<Item = Arc<str>>,
    ) {
        let scope = self.names.entry(Arc::clone(scope)).or_default();
        scope.extend(names.into_iter().map(|name| (name, Arc::clone(&model.id))));
        self.models.insert(Arc::clone(&model.id), Arc::new(model));
    }

    /// The model that a caller on this plan reaches by a name or alias. What the plan does not allow is as unknown as
    /// what does not exist.
    #[must_use]
    pub fn model(&self, plan: &Plan, name: &str) -> Option<&Arc<Model>> {
        let mut scopes = plan.scopes.iter();
        let id = scopes.find_map(|scope| self.names.get(scope)?.get(name))?;
        self.models.get(id).filter(|model| plan.allows(model))
    }

    /// All names and aliases by which a caller on this plan reaches models, sorted.
    #[must_use]
    pub fn reached(&self, plan: &Plan) -> BTreeMap<&Arc<str>, &Arc<Model>> {
        let scopes = plan.scopes.iter().filter_map(|scope| self.names.get(scope));
        let mut ids = BTreeMap::new();
        for (name, id) in scopes.flatten() {
            // The first scope that has a name decides, also where the plan does not allow what it finds.
            ids.entry(name).or_insert(id);
        }
        let models = ids
            .into_iter()
            .filter_map(|(name, id)| Some((name, self.models.get(id)?)));
        models.filter(|(_, model)| plan.allows(model)).collect()
    }
}

// === impl Key ===

impl Key {
    /// Whether it stands for a caller of the preview, which has no key.
    #[must_use]
    pub fn is_visitor(&self) -> bool {
        self.name.is_empty()
    }
}

// === impl Endpoint ===

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is not an [`Endpoint`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an address of a worker: expected `host:port` or `unix:/path`")]
pub struct EndpointError(String);

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.into()))
            }
            _ => Err(EndpointError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
