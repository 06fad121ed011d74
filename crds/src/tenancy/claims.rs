//! Which resource has a name that several claim.

use std::collections::BTreeMap;

/// A resource that claims a name. The least of several has it: the fields are compared in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant<'a> {
    /// Where age does not decide: 0 goes first.
    pub rank: usize,
    /// It is being deleted.
    pub leaving: bool,
    /// When it was created, in seconds since the Unix epoch: a cluster knows no finer moments.
    pub created: i64,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its own name, which decides between resources of the same second.
    pub name: &'a str,
}

/// The owner of each name that is claimed.
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
    /// Whether this is the same resource.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        (self.namespace, self.name) == (namespace, name)
    }
}
