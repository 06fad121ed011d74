//! Models with their workers, and the names that lead to them in each namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use inferyard_catalog::{Endpoint, Model, Stopped};
use inferyard_crds::owners;

use super::former::Workers;
use super::{Linked, Owners};
use crate::object::{Id, Kind};
use crate::parsed::{DeclaredModel, Parsed};
use crate::store::{Entry, Store};

/// The scope that has the names of all namespaces; it is not a valid name of a namespace.
pub(super) const EVERYWHERE: &str = "*";

/// The reason for which a model is refused whose name belongs to an older one.
const NAME_TAKEN: &str = "NameTaken";

// === impl Linked ===

impl Linked {
    pub(super) fn add_models(&mut self, store: &Store) {
        let claims = declared(store).flat_map(|(id, entry, model)| {
            let claimant = entry.claimant(0);
            names(id, model).map(move |name| ((id.namespace.as_str(), name), claimant))
        });
        let owners = owners(claims);
        let mut workers = workers(store);
        let models = declared(store).map(|(id, entry, model)| {
            let names: Vec<_> = names(id, model).collect();
            (id, entry, model, names)
        });
        let models: Vec<_> = models.collect();
        let mut former = Vec::new();
        for (id, entry, model, names) in &models {
            let mut workers = workers.remove(*id).unwrap_or_default();
            let own = workers.take(names[0]);
            let claimant = entry.claimant(store.platform.rank(&id.namespace));
            former.extend(workers.former(claimant, names, &own));
            self.add_model(store, id, entry, model, own.endpoints, &owners);
        }
        self.add_former(store, former, &owners);
    }

    fn add_model(
        &mut self,
        store: &Store,
        id: &Id,
        entry: &Entry,
        model: &DeclaredModel,
        workers: BTreeSet<Endpoint>,
        owners: &Owners<'_>,
    ) {
        let namespace = id.namespace.as_str();
        let owner = |name: &str| owners[&(namespace, name)];
        let (own, taken): (Vec<_>, Vec<_>) =
            names(id, model).partition(|name| owner(name).is(namespace, &id.name));
        let canonical = model.name(&id.name);
        for name in &taken {
            let (field, consequence) = if *name == canonical {
                ("spec.model.name", "this one is not served under it")
            } else {
                ("spec.model.aliases", "the alias is left out")
            };
            let owner = owner(name);
            let message = format!(
                "{field}: the name {name:?} is taken by the older ModelDeployment {}/{}; {consequence}",
                owner.namespace, owner.name
            );
            self.warn(Kind::Models, id, &message);
        }
        let Some(first) = own.first() else {
            return;
        };
        let reason = (!taken.is_empty()).then_some(NAME_TAKEN);
        let reason = reason.or(model.refused.as_deref());
        let refused = reason.map(|reason| Stopped::Refused {
            reason: reason.into(),
        });
        let zero = || model.is_scaled_to_zero().then_some(Stopped::ScaledToZero);
        let model = Model {
            id: store.platform.model_id(namespace, first).into(),
            name: canonical.into(),
            created: entry.object.created,
            // Workers that started before another model took the name go on serving the aliases.
            workers: workers.into_iter().collect(),
            stopped: refused.or_else(zero),
        };
        let own = own.into_iter().map(Arc::from);
        self.catalog.add(&namespace.into(), model, own);
    }

    /// Adds the scope [`EVERYWHERE`], in which a name leads to one namespace: to one of the platform's, else to that of
    /// the oldest model.
    pub(super) fn add_everywhere(&mut self, store: &Store) {
        let claims = declared(store).flat_map(|(id, entry, model)| {
            let claimant = entry.claimant(store.platform.rank(&id.namespace));
            names(id, model).map(move |name| (name, claimant))
        });
        // The first claimant of all is the first in its own namespace too, so the name leads to its model there.
        let found = owners(claims).into_iter().filter_map(|(name, owner)| {
            let (name, id) = self
                .catalog
                .names
                .get(owner.namespace)?
                .get_key_value(name)?;
            Some((Arc::clone(name), id.clone()))
        });
        let mut found: BTreeMap<_, _> = found.collect();
        for (namespace, name) in &self.former {
            if let Some(id) = self.catalog.names[namespace].get(name) {
                let owner = found.entry(Arc::clone(name));
                owner.or_insert_with(|| id.clone());
            }
        }
        self.catalog.names.insert(EVERYWHERE.into(), found);
    }
}

fn declared(store: &Store) -> impl Iterator<Item = (&Id, &Entry, &DeclaredModel)> {
    let entries = store.entries(Kind::Models);
    entries.filter_map(|(id, entry)| match &entry.parsed {
        Some(Parsed::Model(model)) => Some((id, entry, model)),
        _ => None,
    })
}

/// The canonical name of a model, then its aliases.
fn names<'a>(id: &'a Id, model: &'a DeclaredModel) -> impl Iterator<Item = &'a str> {
    std::iter::once(model.name(&id.name)).chain(model.aliases())
}

/// The workers of each `ModelDeployment`.
fn workers(store: &Store) -> HashMap<Id, Workers> {
    let mut workers: HashMap<Id, Workers> = HashMap::new();
    for (id, entry) in store.entries(Kind::Workers) {
        let Some(Parsed::Worker(pod)) = &entry.parsed else {
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
