//! The catalog: the models, plans and keys of a router. The reader of manifests or the cluster watcher has validated it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use inferyard_keys::KeyHash;

use inferyard_domain::{Account, KeyName, ModelId, PlanName};

mod model;
mod plan;

pub use model::{Model, Stopped};
pub use plan::{Limits, OnLoss, Plan, Preview, Price, Queue};

/// The scope of names if all models share one, as with manifests in files.
pub const ONE_SCOPE: &str = "";

/// Models, plans and keys at one moment. A new catalog replaces the old one as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Nothing is known yet: requests for what the catalog lacks are not rejected, but asked to retry. Only a
    /// router's first catalog may set this.
    pub pending: bool,
    /// Declared models, by id.
    pub models: BTreeMap<ModelId, Arc<Model>>,
    /// By scope: the names and aliases by which callers reach models, with the ids of these models. A plan lists the
    /// scopes in which its callers' names are looked up.
    pub names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, ModelId>>,
    /// Keys, by the SHA-256 of their text.
    pub keys: BTreeMap<KeyHash, Arc<Key>>,
    /// Valid keys whose plan cannot be used, by the SHA-256 of their text.
    pub keys_without_plan: BTreeMap<KeyHash, KeyWithoutPlan>,
    /// Plans, by every name that keys in a key store may refer to; also used for callers without a key.
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

/// An API key, identified only by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Name of the key, for logs and metering; `None`: a caller of the preview, without a key.
    pub name: Option<KeyName>,
    /// The account that pays, and within which cached prefixes are shared.
    pub account: Account,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// When it expires.
    pub expires: Option<SystemTime>,
    /// Whether it is refused.
    pub disabled: bool,
    /// Limits of this key alone, in addition to those of its plan.
    pub limits: Option<Limits>,
}

/// A key whose plan cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWithoutPlan {
    /// Name of the plan.
    pub plan: PlanName,
    /// Whether the plan exists but is refused, because it grants what only the platform's plans may grant.
    pub is_refused: bool,
    /// When the key expires.
    pub expires: Option<SystemTime>,
    /// Whether the key is refused.
    pub disabled: bool,
}

// === impl Catalog ===

impl Catalog {
    /// The catalog of a router before discovery has finished.
    #[must_use]
    pub fn pending() -> Self {
        Self {
            pending: true,
            ..Self::default()
        }
    }

    /// Adds a model with the names by which it is reached in a scope. Its own name must be listed too.
    pub fn add(
        &mut self,
        scope: &Arc<str>,
        model: Model,
        names: impl IntoIterator<Item = Arc<str>>,
    ) {
        let scope = self.names.entry(Arc::clone(scope)).or_default();
        scope.extend(names.into_iter().map(|name| (name, model.id.clone())));
        self.models.insert(model.id.clone(), Arc::new(model));
    }

    /// The model that a caller on this plan reaches by a name or alias. A model that the plan does not allow is
    /// treated as unknown.
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
            // The first scope that has the name decides, even if the plan does not allow its model.
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
    /// Whether it stands for a caller of the preview, without a key.
    #[must_use]
    pub fn is_visitor(&self) -> bool {
        self.name.is_none()
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

/// The text is not an [`Endpoint`].
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
