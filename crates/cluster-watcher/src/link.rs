//! Links stored objects into a catalog: references are resolved by name, by the rules that the operator uses too.

mod former;
mod keys;
mod models;
mod plans;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use inferyard_catalog::{Catalog, Plan};
use inferyard_crds::Claimant;
use inferyard_domain::ModelId;

use crate::object::{Id, Kind};
use crate::store::Store;

/// A catalog, and warnings about everything that is declared but not in it.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    pub(crate) catalog: Catalog,
    pub(crate) warnings: BTreeSet<String>,
    /// Ids that a plan treats as one model: after a rename, the ids of the former and of the declared name.
    equivalent: HashMap<ModelId, Vec<ModelId>>,
    /// Former names that still have workers, with their namespaces.
    former: Vec<(Arc<str>, Arc<str>)>,
}

/// The plans by namespace and name; `None`: the plan is refused.
type Plans<'a> = HashMap<&'a Id, Option<Arc<Plan>>>;

/// The `ModelDeployment` to which each name belongs, by namespace and name.
type Owners<'a> = BTreeMap<(&'a str, &'a str), Claimant<'a>>;

/// Links all objects of a store.
pub(crate) fn link(store: &Store) -> Linked {
    let mut linked = Linked::default();
    linked.report_problems(store);
    linked.add_models(store);
    let plans = linked.add_plans(store);
    linked.add_keys(store, &plans);
    linked
}

// === impl Linked ===

impl Linked {
    fn warn(&mut self, kind: Kind, id: &Id, message: &str) {
        let warning = format!("{} {id}: {message}", kind.singular());
        self.warnings.insert(warning);
    }

    fn report_problems(&mut self, store: &Store) {
        for kind in Kind::ALL {
            for (id, entry) in store.entries(kind) {
                let Some(problem) = &entry.problem else {
                    continue;
                };
                let consequence = match (&entry.parsed, kind) {
                    (Some(_), _) => "the last valid version stays in force",
                    (None, Kind::Keys) => "the key is refused",
                    (None, _) => "it is not used",
                };
                self.warn(kind, id, &format!("{problem}; {consequence}"));
            }
        }
    }
}
