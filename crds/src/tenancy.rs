//! The rules of tenancy that the operator and the routers of a cluster share.
//!
//! Administrators work in the namespaces of the platform. The permission to edit another namespace covers only the
//! models, plans and keys in that namespace.

mod allowed;
mod claims;
mod reach;

pub use claims::{Claimant, owners};
pub use reach::{Others, Reach};

/// The namespaces of the platform. Only Plans there may give access to other namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Names from the first one have no namespace prefix.
    namespaces: Vec<String>,
}

// === impl Platform ===

impl Platform {
    /// A platform of these namespaces.
    #[must_use]
    pub fn new(namespaces: Vec<String>) -> Self {
        Self { namespaces }
    }

    /// The default: the watched namespace if there is exactly one. If several or all namespaces (`watched` is empty)
    /// are watched: the namespace of the release.
    #[must_use]
    pub fn usual(watched: &[String], release: &str) -> Self {
        let namespace = match watched {
            [only] => only,
            _ => release,
        };
        Self::new(vec![namespace.to_owned()])
    }

    /// Whether a namespace belongs to the platform.
    #[must_use]
    pub fn includes(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|own| own == namespace)
    }

    /// The name of a plan, a key or an account in limits, usage and answers. Two namespaces may use the same name, so
    /// all names have their namespace as a prefix, except those of the first namespace of the platform.
    #[must_use]
    pub fn called(&self, namespace: &str, name: &str) -> String {
        if self.is_first(namespace) {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        }
    }

    /// The name of a model in usage and metrics. The name of a model may contain `/`, but never `@`, so models of
    /// different namespaces have different identifiers.
    #[must_use]
    pub fn model_id(&self, namespace: &str, name: &str) -> String {
        if self.is_first(namespace) {
            name.to_owned()
        } else {
            format!("{name}@{namespace}")
        }
    }

    /// The rank of a namespace if several namespaces have a model of the same name: the lowest rank wins. The
    /// namespaces of the platform come first.
    #[must_use]
    pub fn rank(&self, namespace: &str) -> usize {
        let mut own = self.namespaces.iter();
        own.position(|own| own == namespace)
            .unwrap_or(self.namespaces.len())
    }

    /// The rank of a key of this namespace among keys with the same hash: the lowest rank owns the hash. A hash is not
    /// secret. So an older key with a copied hash must not win over a key of the platform, nor over a key that owns the
    /// hash already according to its status (`has`).
    #[must_use]
    pub fn key_rank(&self, namespace: &str, has: bool) -> usize {
        match (self.includes(namespace), has) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        }
    }

    fn is_first(&self, namespace: &str) -> bool {
        self.namespaces.first().is_some_and(|own| own == namespace)
    }
}

#[cfg(test)]
mod tests;
