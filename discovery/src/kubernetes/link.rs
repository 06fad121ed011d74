//! What is known becomes a catalog: names find each other, and where two claim the same name, the older
//! one has it.

mod former;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use inferyard_crds::ApiKeySpec;
use inferyard_router::catalog::{Catalog, Endpoint, Model, Plan};

use super::known::Known;
use super::meaning::{Meaning, ModelNames};
use super::object::{Id, Kind};
use crate::manifests::key;
use former::{Former, Workers};

/// A catalog, and why it is not all that is declared.
#[derive(Debug, Default)]
pub(super) struct Linked {
    pub(super) catalog: Catalog,
    pub(super) complaints: BTreeSet<String>,
    /// Models that are one for a plan, because workers still serve the name before the last.
    alike: HashMap<Arc<str>, Vec<Arc<str>>>,
}

/// Links what is known.
pub(super) fn link(known: &Known) -> Linked {
    let mut linked = Linked::default();
    linked.report_problems(known);
    let mut workers = workers(known);
    let mut owners = HashMap::new();
    let mut formers = Vec::new();
    for (id, entry) in known.by_age(Kind::Models) {
        if let Some(Meaning::Model(names)) = &entry.meaning {
            let declared = names.name.as_deref().unwrap_or(&id.name);
            let mut workers = workers.remove(id).unwrap_or_default();
            let own = workers.take(declared);
            formers.extend(workers.former(id, declared, entry.object.created, &own));
            linked.add_model(id, names, entry.object.created, own.endpoints, &mut owners);
        }
    }
    for former in formers {
        linked.keep(former, &mut owners);
    }
    let mut preview = None;
    let mut plans = HashMap::new();
    for (id, entry) in known.by_age(Kind::Plans) {
        if let Some(Meaning::Plan { plan, models }) = &entry.meaning {
            let mut plan = Plan::clone(plan);
            plan.models = models.as_ref().map(|names| linked.canonical(id, names));
            linked.check_preview(id, &mut plan, &mut preview);
            let plan = Arc::new(plan);
            plans.insert(id, Arc::clone(&plan));
            linked.catalog.plans.insert(Arc::clone(&plan.name), plan);
        }
    }
    for (id, entry) in known.by_age(Kind::Keys) {
        if let Some(Meaning::Key(spec)) = &entry.meaning {
            let plan = plans.get(&Id {
                namespace: id.namespace.clone(),
                name: spec.plan.clone(),
            });
            if let Some(plan) = plan {
                linked.add_key(known, id, spec, plan);
            } else {
                let message = format!("spec.plan: there is no Plan named {:?}", spec.plan);
                linked.complain(Kind::Keys, id, &format!("{message}; the key is refused"));
            }
        }
    }
    linked
}

/// Where the workers of each `ModelDeployment` listen.
fn workers(known: &Known) -> HashMap<Id, Workers> {
    let mut workers: HashMap<Id, Workers> = HashMap::new();
    for (id, entry) in known.entries(Kind::Workers) {
        let Some(Meaning::Worker(pod)) = &entry.meaning else {
            continue;
        };
        if let Some(model) = &pod.model {
            let model = Id {
                namespace: id.namespace.clone(),
                name: model.clone(),
            };
            workers.entry(model).or_default().add(pod);
        }
    }
    workers
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

    fn add_model(
        &mut self,
        id: &Id,
        names: &ModelNames,
        created: u64,
        workers: BTreeSet<Endpoint>,
        owners: &mut HashMap<Arc<str>, Id>,
    ) {
        let name: Arc<str> = names.name.as_deref().unwrap_or(&id.name).into();
        if let Some(owner) = owners.get(&name) {
            let message = format!(
                "spec.model.name: the name {name:?} is taken by the older ModelDeployment {owner}; \
                 this one is not served"
            );
            return self.complain(Kind::Models, id, &message);
        }
        owners.insert(Arc::clone(&name), id.clone());
        for alias in names.aliases.iter().flatten() {
            if let Some(owner) = owners.get(alias.as_str()) {
                let message = format!(
                    "spec.model.aliases: the name {alias:?} is taken by ModelDeployment {owner}; \
                     the alias is left out"
                );
                self.complain(Kind::Models, id, &message);
                continue;
            }
            let alias: Arc<str> = alias.as_str().into();
            owners.insert(Arc::clone(&alias), id.clone());
            self.catalog.aliases.insert(alias, Arc::clone(&name));
        }
        let model = Model {
            name: Arc::clone(&name),
            created,
            workers: workers.into_iter().collect(),
        };
        self.catalog.models.insert(name, Arc::new(model));
    }

    /// Keeps the model of a name that is not declared any longer, as long as its workers are there. Where the name is
    /// an alias now, it leads to them as long as more of them are ready than of the new ones.
    fn keep(&mut self, former: Former, owners: &mut HashMap<Arc<str>, Id>) {
        let declared = owners.get(&former.declared) == Some(&former.owner);
        let owner = owners.entry(Arc::clone(&former.name));
        if *owner.or_insert_with(|| former.owner.clone()) != former.owner {
            return;
        }
        if former.is_ahead {
            self.catalog.aliases.remove(&former.name);
        }
        if declared {
            let mut alike = |one: &Arc<str>, other: &Arc<str>| {
                let of = self.alike.entry(Arc::clone(one)).or_default();
                of.push(Arc::clone(other));
            };
            alike(&former.declared, &former.name);
            alike(&former.name, &former.declared);
        }
        let model = Model {
            name: Arc::clone(&former.name),
            created: former.created,
            workers: former.workers.into_iter().collect(),
        };
        self.catalog.models.insert(former.name, Arc::new(model));
    }

    /// The canonical names of the models that a plan names.
    fn canonical(&mut self, id: &Id, names: &[String]) -> Vec<Arc<str>> {
        let mut canonical = Vec::with_capacity(names.len());
        for name in names {
            if let Some(model) = self.catalog.model(name) {
                canonical.push(Arc::clone(&model.name));
                canonical.extend(self.alike.get(&model.name).into_iter().flatten().cloned());
            } else {
                let message =
                    format!("spec.models: no ModelDeployment serves a model named {name:?}");
                self.complain(Kind::Plans, id, &message);
            }
        }
        canonical
    }

    /// Callers without a key are on one plan.
    fn check_preview<'a>(&mut self, id: &'a Id, plan: &mut Plan, first: &mut Option<&'a Id>) {
        if plan.preview.is_none() {
            return;
        }
        if let Some(first) = first {
            let message = format!(
                "spec.preview: the older Plan {first} is open to callers without a key already, and \
                 only one plan can be; this one is not"
            );
            self.complain(Kind::Plans, id, &message);
            plan.preview = None;
        } else {
            *first = Some(id);
        }
    }

    fn add_key(&mut self, known: &Known, id: &Id, spec: &ApiKeySpec, plan: &Arc<Plan>) {
        let mut mistakes = Vec::new();
        let mut report = |path: &str, message| mistakes.push(format!("{path}: {message}"));
        let declared = key::keys(&id.name, spec, plan, &mut report);
        for mistake in mistakes {
            self.complain(Kind::Keys, id, &mistake);
        }
        for key::DeclaredKey {
            path,
            hash,
            mut key,
        } in declared
        {
            if let Some(first) = self.catalog.keys.get(&hash) {
                let message = format!(
                    "{path}: the older ApiKey {} has the same hash; this one is left out",
                    first.name
                );
                self.complain(Kind::Keys, id, &message);
                continue;
            }
            key.account = known.called(&id.namespace, &key.account).into();
            key.name = known.called(&id.namespace, &key.name).into();
            self.catalog.keys.insert(hash, Arc::new(key));
        }
    }
}
