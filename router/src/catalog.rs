//! What the router serves and to whom: the checked view of the outside that discovery hands in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use inferyard_keys::KeyHash;

mod plan;

pub use plan::{Limits, OnLoss, Plan, Preview, Price, Queue};

/// Models, plans and keys at one moment. A new one replaces the old one whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Nothing is known yet: nobody is refused for what this catalog lacks, and all are asked to come
    /// back. Only a router's first catalog may say so.
    pub pending: bool,
    /// Served models, by canonical name.
    pub models: BTreeMap<Arc<str>, Arc<Model>>,
    /// Canonical names by alias. An alias goes before a model of the same name: that one ends what it has begun, and
    /// gets nothing new.
    pub aliases: BTreeMap<Arc<str>, Arc<str>>,
    /// Keys, by the SHA-256 of their text.
    pub keys: BTreeMap<KeyHash, Arc<Key>>,
    /// Plans, by name: for keys that a key store holds.
    pub plans: BTreeMap<Arc<str>, Arc<Plan>>,
    /// Namespaces that cannot be read, and why: for who runs the router.
    pub unread: BTreeMap<Arc<str>, Arc<str>>,
}

/// A model and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Canonical name.
    pub name: Arc<str>,
    /// When it was declared, in seconds since the Unix epoch (OpenAI's `created`).
    pub created: u64,
    /// Its workers, ready or not; their own state says which.
    pub workers: Vec<Endpoint>,
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

    /// The model of this name or alias.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        let aliased = self.aliases.get(name);
        self.models.get(aliased.map_or(name, |name| name))
    }
}

// === impl Key ===

impl Key {
    /// Whether it stands for a caller of the preview, which has no key.
    pub(crate) fn is_visitor(&self) -> bool {
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
