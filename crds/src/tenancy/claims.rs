//! The owner of a name that several resources claim.

use std::collections::BTreeMap;

/// A resource that claims a name. The smallest claimant owns the name: the fields are compared in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant<'a> {
    /// The rank, which counts before the age. The lowest rank wins.
    pub rank: usize,
    /// Whether the resource is being deleted.
    pub leaving: bool,
    /// The creation time in seconds since the Unix epoch, the resolution of Kubernetes.
    pub created: i64,
    /// The namespace of the resource.
    pub namespace: &'a str,
    /// The name of the resource, which decides between resources of the same second.
    pub name: &'a str,
}

/// The owner of each claimed name.
pub fn owners<'a, N: Ord>(
    claims: impl IntoIterator<Item = (N, Claimant<'a>)>,
) -> BTreeMap<N, Claimant<'a>> {
    let mut owners = BTreeMap::new();
    for (name, claimant) in claims {
        let owner = owners.entry(name).or_insert(claimant);
        *owner = claimant.min(*owner);
    }
    owners
}

// === impl Claimant ===

impl Claimant<'_> {
    /// Whether the claimant is this resource.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        (self.namespace, self.name) == (namespace, name)
    }
}
