//! The namespaces whose models a Plan reaches.

use super::Platform;
use crate::{NamespaceSelector, PlanSpec};

/// The namespaces whose models a Plan reaches. The name of a model is looked up in the namespace of the Plan first,
/// then in the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The namespace of the Plan.
    pub own: String,
    /// The other namespaces.
    pub others: Others,
}

/// The namespaces that a Plan reaches in addition to its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Others {
    /// These namespaces, in this order. Empty for most Plans.
    Named(Vec<String>),
    /// All namespaces: first those of the platform in their order, then the namespace with the oldest model of the
    /// name.
    All,
}

// === impl Reach ===

impl Reach {
    /// Whether the Plan reaches the models of a namespace.
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
    /// The namespaces that a Plan in this namespace reaches, if the Plan is allowed ([`Platform::refusal`]).
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
