//! What is known of a cluster, by kind and name.

use std::collections::{BTreeMap, BTreeSet};

use inferyard_crds::{Claimant, Platform};

use crate::meaning::Meaning;
use crate::object::{Id, Kind, Object};

/// Every object that was seen and not seen to go.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) platform: Platform,
    kinds: BTreeMap<Kind, BTreeMap<Id, Entry>>,
}

/// An object, in the version that is in force.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    /// `None`: it never was without mistakes.
    pub(crate) meaning: Option<Meaning>,
    /// What is wrong with the version that was seen last.
    pub(crate) problem: Option<String>,
}

// === impl Known ===

impl Known {
    pub(crate) fn new(platform: Platform) -> Self {
        Self {
            platform,
            kinds: BTreeMap::new(),
        }
    }

    /// Takes a version of an object. Whether anything differs now.
    pub(crate) fn put(&mut self, kind: Kind, object: Object) -> bool {
        let id = object.id();
        let entries = self.kinds.entry(kind).or_default();
        let old = entries.get_mut(&id);
        if old
            .as_ref()
            .is_some_and(|old| old.object == object && old.is_well())
        {
            return false;
        }
        match (Meaning::read(kind, &object, &self.platform), old) {
            (Err(problem), Some(old)) if old.stays(kind, &object) => {
                let problem = Some(problem);
                let differs = old.problem != problem;
                old.problem = problem;
                differs
            }
            (read, old) => {
                let (meaning, problem) = match read {
                    Ok(meaning) => (Some(meaning), None),
                    Err(problem) => (None, Some(problem)),
                };
                let differs = old.is_none_or(|old| old.object != object || old.problem != problem);
                let entry = Entry {
                    object,
                    meaning,
                    problem,
                };
                entries.insert(id, entry);
                differs
            }
        }
    }

    /// Forgets an object. Whether it was known.
    pub(crate) fn remove(&mut self, kind: Kind, id: &Id) -> bool {
        let entries = self.kinds.entry(kind).or_default();
        entries.remove(id).is_some()
    }

    /// Takes all objects of a kind in a namespace (`None`: in all). Whether anything differs now.
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
            differs |= self.put(kind, object);
        }
        differs
    }

    pub(crate) fn entries(&self, kind: Kind) -> impl Iterator<Item = (&Id, &Entry)> {
        self.kinds.get(&kind).into_iter().flatten()
    }
}

// === impl Entry ===

impl Entry {
    /// The object as one of several that claim a name.
    pub(crate) fn claimant(&self, rank: usize) -> Claimant<'_> {
        let leaving = matches!(&self.meaning, Some(Meaning::Model(model)) if model.leaving);
        Claimant {
            rank,
            leaving,
            created: i64::try_from(self.object.created).unwrap_or(i64::MAX),
            namespace: &self.object.namespace,
            name: &self.object.name,
        }
    }

    fn is_well(&self) -> bool {
        self.problem.is_none() && self.meaning.is_some()
    }

    /// Whether this version stays in force although `newer` has mistakes. A key is refused instead: the
    /// mistake may stand beside its revocation.
    fn stays(&self, kind: Kind, newer: &Object) -> bool {
        kind != Kind::Keys && self.meaning.is_some() && self.object.uid == newer.uid
    }
}
