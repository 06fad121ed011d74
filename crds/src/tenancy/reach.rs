//! Which namespaces' models the callers of a Plan reach.

use super::Platform;
use crate::{NamespaceSelector, PlanSpec};

/// The namespaces whose models the callers of a Plan reach. A name is looked up in the Plan's own namespace first, then
/// in the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The namespace of the Plan.
    pub own: String,
    /// The others.
    pub others: Others,
}

/// The namespaces that a Plan reaches beside its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Others {
    /// These, in this order; mostly none.
    Named(Vec<String>),
    /// All: first those of the platform in their order, then whichever has the oldest model of the name.
    All,
}

// === impl Reach ===

impl Reach {
    /// Whether the models of a namespace are reached.
    #[must_use]
    pub fn includes(&self, namespace: &str) -> bool {
        self.own == namespace
            || match &self.others {
                Others::Named(names) => names.iter().any(|name| name == namespace),
                Others::All => true,
            }
    }
}

// === impl Platform ===

impl Platform {
    /// What the callers of a Plan in this namespace reach, provided that the Plan is allowed
    /// ([`Platform::refusal`]).
    #[must_use]
    pub fn reach(&self, namespace: &str, spec: &PlanSpec) -> Reach {
        let others = match &spec.namespace_selector {
            _ if !self.includes(namespace) => Others::Named(Vec::new()),
            None | Some(NamespaceSelector::Any(false)) => Others::Named(Vec::new()),
            Some(NamespaceSelector::Any(true)) => Others::All,
            Some(NamespaceSelector::MatchNames(names)) => Others::Named(names.clone()),
        };
        Reach {
            own: namespace.to_owned(),
            others,
        }
    }
}
