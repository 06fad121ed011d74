//! The objects of a cluster by kind and name, each in the last valid version.

use std::collections::{BTreeMap, BTreeSet};

use inferyard_crds::{Claimant, Platform};

use crate::object::{Id, Kind, Object};
use crate::parsed::Parsed;

/// All objects that exist, as far as the watches have told.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) platform: Platform,
    kinds: BTreeMap<Kind, BTreeMap<Id, Entry>>,
}

/// An object in the version that is in force.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    /// `None`: no version was valid.
    pub(crate) parsed: Option<Parsed>,
    /// The mistakes in the latest version.
    pub(crate) problem: Option<String>,
}

// === impl Store ===

impl Store {
    pub(crate) fn new(platform: Platform) -> Self {
        Self {
            platform,
            kinds: BTreeMap::new(),
        }
    }

    /// Stores a new version of an object. Returns whether anything has changed.
    pub(crate) fn upsert(&mut self, kind: Kind, object: Object) -> bool {
        let id = object.id();
        let entries = self.kinds.entry(kind).or_default();
        let old = entries.get_mut(&id);
        if old
            .as_ref()
            .is_some_and(|old| old.object == object && old.is_valid())
        {
            return false;
        }
        match (Parsed::parse(kind, &object, &self.platform), old) {
            (Err(problem), Some(old)) if old.stays_in_force(kind, &object) => {
                let problem = Some(problem);
                let differs = old.problem != problem;
                old.problem = problem;
                differs
            }
            (result, old) => {
                let (parsed, problem) = match result {
                    Ok(parsed) => (Some(parsed), None),
                    Err(problem) => (None, Some(problem)),
                };
                let differs = old.is_none_or(|old| old.object != object || old.problem != problem);
                let entry = Entry {
                    object,
                    parsed,
                    problem,
                };
                entries.insert(id, entry);
                differs
            }
        }
    }

    /// Removes an object. Returns whether there was one.
    pub(crate) fn remove(&mut self, kind: Kind, id: &Id) -> bool {
        let entries = self.kinds.entry(kind).or_default();
        entries.remove(id).is_some()
    }

    /// Replaces all objects of a kind in a namespace (`None`: in all). Returns whether anything has changed.
    pub(crate) fn replace(
        &mut self,
        kind: Kind,
        scope: Option<&str>,
        objects: Vec<Object>,
    ) -> bool {
        let listed: BTreeSet<Id> = objects.iter().map(Object::id).collect();
        let entries = self.kinds.entry(kind).or_default();
        let before = entries.len();
        entries.retain(|id, _| {
            scope.is_some_and(|scope| scope != id.namespace) || listed.contains(id)
        });
        let mut differs = entries.len() != before;
        for object in objects {
            differs |= self.upsert(kind, object);
        }
        differs
    }

    pub(crate) fn entries(&self, kind: Kind) -> impl Iterator<Item = (&Id, &Entry)> {
        self.kinds.get(&kind).into_iter().flatten()
    }
}

// === impl Entry ===

impl Entry {
    /// The object as one of several claimants of a name.
    pub(crate) fn claimant(&self, rank: usize) -> Claimant<'_> {
        let leaving = matches!(&self.parsed, Some(Parsed::Model(model)) if model.leaving);
        Claimant {
            rank,
            leaving,
            created: i64::try_from(self.object.created).unwrap_or(i64::MAX),
            namespace: &self.object.namespace,
            name: &self.object.name,
        }
    }

    fn is_valid(&self) -> bool {
        self.problem.is_none() && self.parsed.is_some()
    }

    /// Whether this version stays in force if `newer` has mistakes. Keys are refused instead: the version with the
    /// mistake may also revoke the key.
    fn stays_in_force(&self, kind: Kind, newer: &Object) -> bool {
        kind != Kind::Keys && self.parsed.is_some() && self.object.uid == newer.uid
    }
}
