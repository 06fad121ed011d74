//! What is known becomes a catalog: names find each other, by the rules that the operator has too.

mod former;
mod keys;
mod models;
mod plans;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use inferyard_catalog::{Catalog, Plan};
use inferyard_crds::Claimant;

use crate::known::Known;
use crate::object::{Id, Kind};

/// A catalog, and why it is not all that is declared.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    pub(crate) catalog: Catalog,
    pub(crate) complaints: BTreeSet<String>,
    /// Ids of models that are one for a plan: after a model got a new name, workers still serve the one before it.
    alike: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Names that are not declared any longer and are served still, with their namespaces.
    former: Vec<(Arc<str>, Arc<str>)>,
}

/// Plans by namespace and name; `None`: the plan is refused.
type Plans<'a> = HashMap<&'a Id, Option<Arc<Plan>>>;

/// The `ModelDeployment`s that have the names, by namespace and name.
type Owners<'a> = BTreeMap<(&'a str, &'a str), Claimant<'a>>;

/// Links what is known.
pub(crate) fn link(known: &Known) -> Linked {
    let mut linked = Linked::default();
    linked.report_problems(known);
    linked.add_models(known);
    let plans = linked.add_plans(known);
    linked.add_keys(known, &plans);
    linked
}

// === impl Linked ===

impl Linked {
    fn complain(&mut self, kind: Kind, id: &Id, message: &str) {
        let complaint = format!("{} {id}: {message}", kind.singular());
        self.complaints.insert(complaint);
    }

    fn report_problems(&mut self, known: &Known) {
        for kind in Kind::ALL {
            for (id, entry) in known.entries(kind) {
                let Some(problem) = &entry.problem else {
                    continue;
                };
                let consequence = match (&entry.meaning, kind) {
                    (Some(_), _) => "the version before it stays in force",
                    (None, Kind::Keys) => "the key is refused",
                    (None, _) => "it is left out",
                };
                self.complain(kind, id, &format!("{problem}; {consequence}"));
            }
        }
    }
}
