//! What belongs to which namespace: the rules that the operator and the routers of a cluster share.
//!
//! The platform's administrators work in the namespaces of the platform. The right to edit another namespace covers the
//! models, plans and keys in that namespace only.

mod allowed;
mod claims;
mod reach;

pub use claims::{Claimant, owners};
pub use reach::{Others, Reach};

/// The namespaces of the platform. Only Plans there may give access to other namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Names in the first one are written without their namespace.
    namespaces: Vec<String>,
}

// === impl Platform ===

impl Platform {
    /// These namespaces.
    #[must_use]
    pub fn new(namespaces: Vec<String>) -> Self {
        Self { namespaces }
    }

    /// The default: the namespace that is watched, if it is one; if several are watched, or all (`watched` is empty),
    /// that of the release.
    #[must_use]
    pub fn usual(watched: &[String], release: &str) -> Self {
        let namespace = match watched {
            [only] => only,
            _ => release,
        };
        Self::new(vec![namespace.to_owned()])
    }

    /// Whether a namespace is one of the platform.
    #[must_use]
    pub fn includes(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|own| own == namespace)
    }

    /// What a plan, a key or an account of a namespace is called in limits, usage and answers. Two namespaces
    /// may use the same name: those of all but the first namespace of the platform stand behind their namespace.
    #[must_use]
    pub fn called(&self, namespace: &str, name: &str) -> String {
        if self.is_first(namespace) {
            name.to_owned()
        } else {
            format!("{namespace}/{name}")
        }
    }

    /// What a model of a namespace is called in usage and metrics. A name of a model may contain `/`, but never `@`,
    /// so that no name of one namespace looks like one of another.
    #[must_use]
    pub fn model_id(&self, namespace: &str, name: &str) -> String {
        if self.is_first(namespace) {
            name.to_owned()
        } else {
            format!("{name}@{namespace}")
        }
    }

    /// The rank of a namespace among those that have a name; the lowest is taken. Namespaces of the platform come first.
    #[must_use]
    pub fn rank(&self, namespace: &str) -> usize {
        let mut own = self.namespaces.iter();
        own.position(|own| own == namespace)
            .unwrap_or(self.namespaces.len())
    }

    /// The rank of a key of this namespace among keys with the same hash; the lowest gets the callers. A hash is no
    /// secret. A copied hash in an older key must take no callers from a key of the platform, nor from a key that `has`
    /// the hash by its status.
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
