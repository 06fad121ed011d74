//! Keys: which plan each is on, and which of several with the same hash counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_catalog::{KeyWithoutPlan, Plan};
use inferyard_crds::{ApiKeySpec, Claimant, owners};

use super::{Linked, Plans};
use crate::known::{Entry, Known};
use crate::meaning::{DeclaredKey, Meaning};
use crate::object::{Id, Kind};
use inferyard_manifests::key;

/// Who has a hash.
type Owners<'a> = BTreeMap<&'a str, Claimant<'a>>;

// === impl Linked ===

impl Linked {
    pub(super) fn add_keys(&mut self, known: &Known, plans: &Plans<'_>) {
        let claims = declared(known).flat_map(|(id, entry, key)| {
            key.spec.hashes().map(move |hash| {
                let has = key.hashes.iter().any(|own| own == hash);
                let rank = known.platform.key_rank(&id.namespace, has);
                (hash, entry.claimant(rank))
            })
        });
        let owners = owners(claims);
        for (id, _, DeclaredKey { spec, .. }) in declared(known) {
            let plan = plans.get(&Id {
                namespace: id.namespace.clone(),
                name: spec.plan.clone(),
            });
            if let Some(Some(plan)) = plan {
                for key::DeclaredKey { hash, key, .. } in self.keys(known, id, spec, plan, &owners)
                {
                    self.catalog.keys.insert(hash, Arc::new(key));
                }
            } else {
                self.add_without_plan(known, id, spec, plan.is_some(), &owners);
            }
        }
    }

    /// A key that is good, but whose plan is missing or refused.
    fn add_without_plan(
        &mut self,
        known: &Known,
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
        self.complain(Kind::Keys, id, &format!("{message}; the key is refused"));
        // Nobody is served by it: only the key's own fields are read.
        let stand_in = Arc::new(Plan::unrestricted(&spec.plan));
        for key::DeclaredKey { hash, key, .. } in self.keys(known, id, spec, &stand_in, owners) {
            let key = KeyWithoutPlan {
                plan: spec.plan.as_str().into(),
                is_refused,
                expires: key.expires,
                disabled: key.disabled,
            };
            self.catalog.keys_without_plan.insert(hash, key);
        }
    }

    /// The key, once for each of its hashes that no other key claims first.
    fn keys(
        &mut self,
        known: &Known,
        id: &Id,
        spec: &ApiKeySpec,
        plan: &Arc<Plan>,
        owners: &Owners<'_>,
    ) -> Vec<key::DeclaredKey> {
        let mut mistakes = Vec::new();
        let mut report = |path: &str, message| mistakes.push(format!("{path}: {message}"));
        let mut declared = key::convert(&id.name, spec, plan, &mut report);
        for mistake in mistakes {
            self.complain(Kind::Keys, id, &mistake);
        }
        declared.retain(|declared| {
            let owner = owners[declared.hash.to_string().as_str()];
            let own = owner.is(&id.namespace, &id.name);
            if !own {
                let message = format!(
                    "{}: the ApiKey {}/{} has the same hash and comes first; this one is left out",
                    declared.path, owner.namespace, owner.name
                );
                self.complain(Kind::Keys, id, &message);
            }
            own
        });
        for key::DeclaredKey { key, .. } in &mut declared {
            key.account = known.platform.called(&id.namespace, &key.account).into();
            key.name = known.platform.called(&id.namespace, &key.name).into();
        }
        declared
    }
}

fn declared(known: &Known) -> impl Iterator<Item = (&Id, &Entry, &DeclaredKey)> {
    let entries = known.entries(Kind::Keys);
    entries.filter_map(|(id, entry)| match &entry.meaning {
        Some(Meaning::Key(key)) => Some((id, entry, &**key)),
        _ => None,
    })
}
