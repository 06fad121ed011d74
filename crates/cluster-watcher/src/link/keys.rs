//! Keys: the plan of each, and which of several keys with the same hash is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_catalog::{KeyWithoutPlan, Plan};
use inferyard_crds::{ApiKeySpec, Claimant, owners};

use super::{Linked, Plans};
use crate::object::{Id, Kind};
use crate::parsed::{DeclaredKey, Parsed};
use crate::store::{Entry, Store};
use inferyard_manifests::key;

/// The key to which each hash belongs.
type Owners<'a> = BTreeMap<&'a str, Claimant<'a>>;

// === impl Linked ===

impl Linked {
    pub(super) fn add_keys(&mut self, store: &Store, plans: &Plans<'_>) {
        let claims = declared(store).flat_map(|(id, entry, key)| {
            key.spec.hashes().map(move |hash| {
                let has = key.hashes.iter().any(|own| own == hash);
                let rank = store.platform.key_rank(&id.namespace, has);
                (hash, entry.claimant(rank))
            })
        });
        let owners = owners(claims);
        for (id, _, DeclaredKey { spec, .. }) in declared(store) {
            let plan = plans.get(&Id {
                namespace: id.namespace.clone(),
                name: spec.plan.clone(),
            });
            if let Some(Some(plan)) = plan {
                for key::DeclaredKey { hash, key, .. } in self.keys(store, id, spec, plan, &owners)
                {
                    self.catalog.keys.insert(hash, Arc::new(key));
                }
            } else {
                self.add_without_plan(store, id, spec, plan.is_some(), &owners);
            }
        }
    }

    /// Adds a valid key whose plan does not exist or is refused.
    fn add_without_plan(
        &mut self,
        store: &Store,
        id: &Id,
        spec: &ApiKeySpec,
        is_refused: bool,
        owners: &Owners<'_>,
    ) {
        let message = if is_refused {
            format!("spec.plan: the Plan {:?} is refused", spec.plan)
        } else {
            format!("spec.plan: there is no Plan named {:?}", spec.plan)
        };
        self.warn(Kind::Keys, id, &format!("{message}; the key is refused"));
        // Only the key's own fields are read from the result, so this plan serves no request.
        let stand_in = Arc::new(Plan::unrestricted(&spec.plan));
        for key::DeclaredKey { hash, key, .. } in self.keys(store, id, spec, &stand_in, owners) {
            let key = KeyWithoutPlan {
                plan: spec.plan.as_str().into(),
                is_refused,
                expires: key.expires,
                disabled: key.disabled,
            };
            self.catalog.keys_without_plan.insert(hash, key);
        }
    }

    /// The key under each of its hashes that belongs to it and not to another key.
    fn keys(
        &mut self,
        store: &Store,
        id: &Id,
        spec: &ApiKeySpec,
        plan: &Arc<Plan>,
        owners: &Owners<'_>,
    ) -> Vec<key::DeclaredKey> {
        let mut mistakes = Vec::new();
        let mut report = |path: &str, message| mistakes.push(format!("{path}: {message}"));
        let mut declared = key::convert(&id.name, spec, plan, &mut report);
        for mistake in mistakes {
            self.warn(Kind::Keys, id, &mistake);
        }
        declared.retain(|declared| {
            let owner = owners[declared.hash.to_string().as_str()];
            let own = owner.is(&id.namespace, &id.name);
            if !own {
                let message = format!(
                    "{}: the ApiKey {}/{} has the same hash and comes first; this one is left out",
                    declared.path, owner.namespace, owner.name
                );
                self.warn(Kind::Keys, id, &message);
            }
            own
        });
        for key::DeclaredKey { key, .. } in &mut declared {
            key.account = store.platform.called(&id.namespace, &key.account).into();
            let name = store.platform.called(&id.namespace, &id.name);
            key.name = Some(name.into());
        }
        declared
    }
}

fn declared(store: &Store) -> impl Iterator<Item = (&Id, &Entry, &DeclaredKey)> {
    let entries = store.entries(Kind::Keys);
    entries.filter_map(|(id, entry)| match &entry.parsed {
        Some(Parsed::Key(key)) => Some((id, entry, &**key)),
        _ => None,
    })
}
