//! Plans: which are refused, which models they reach, and which one serves callers without a key.

use std::sync::Arc;

use inferyard_catalog::Plan;
use inferyard_crds::{Others, Reach, owners};
use inferyard_domain::ModelId;

use super::models::EVERYWHERE;
use super::{Linked, Plans};
use crate::object::{Id, Kind};
use crate::parsed::Parsed;
use crate::store::Store;

// === impl Linked ===

impl Linked {
    pub(super) fn add_plans<'a>(&mut self, store: &'a Store) -> Plans<'a> {
        let previews = store.entries(Kind::Plans).filter(|(_, entry)| {
            matches!(&entry.parsed, Some(Parsed::Plan { plan, refusal: None, .. })
                if plan.preview.is_some())
        });
        let preview = owners(previews.map(|(_, entry)| ((), entry.claimant(0))));
        let mut plans = Plans::new();
        for (id, entry) in store.entries(Kind::Plans) {
            let Some(Parsed::Plan {
                plan,
                models,
                reach,
                refusal,
            }) = &entry.parsed
            else {
                continue;
            };
            if let Some(refusal) = refusal {
                let message = format!("{refusal}; the plan is not used");
                self.warn(Kind::Plans, id, &message);
                plans.insert(id, None);
                continue;
            }
            let mut plan = Plan::clone(plan);
            plan.scopes = self.scopes(store, reach);
            plan.models = models
                .as_ref()
                .map(|names| self.canonical(id, &plan, names));
            if plan.preview.is_some()
                && let Some(first) = preview
                    .get(&())
                    .filter(|it| !it.is(&id.namespace, &id.name))
            {
                let message = format!(
                    "spec.preview: the older Plan {}/{} is open to callers without a key already, and \
                     only one plan can be; this one is not",
                    first.namespace, first.name
                );
                self.warn(Kind::Plans, id, &message);
                plan.preview = None;
            }
            let plan = Arc::new(plan);
            plans.insert(id, Some(Arc::clone(&plan)));
            // Keys in a key store and callers without a key may use only plans of the platform's namespaces.
            if store.platform.includes(&id.namespace) {
                let short = plan.name.shared();
                // A key in a key store may name a plan with its namespace, even where the short name is enough.
                let qualified = id.to_string().into();
                self.catalog.plans.insert(qualified, Arc::clone(&plan));
                self.catalog.plans.insert(short, plan);
            }
        }
        plans
    }

    /// The namespaces in which model names are looked up for callers on a plan, in this order.
    fn scopes(&mut self, store: &Store, reach: &Reach) -> Vec<Arc<str>> {
        let others: &[String] = match &reach.others {
            Others::Named(names) => names,
            Others::All => {
                if !self.catalog.names.contains_key(EVERYWHERE) {
                    self.add_everywhere(store);
                }
                &[EVERYWHERE.to_owned()]
            }
        };
        let scopes = std::iter::once(&reach.own).chain(others);
        scopes.map(|scope| scope.as_str().into()).collect()
    }

    /// The ids of the models that a plan allows by name.
    fn canonical(&mut self, id: &Id, plan: &Plan, names: &[String]) -> Vec<ModelId> {
        let mut canonical = Vec::with_capacity(names.len());
        for name in names {
            if let Some(model) = self.catalog.model(plan, name) {
                canonical.push(model.id.clone());
                canonical.extend(
                    self.equivalent
                        .get(&model.id)
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
            } else {
                let message =
                    format!("spec.models: no ModelDeployment serves a model named {name:?}");
                self.warn(Kind::Plans, id, &message);
            }
        }
        canonical
    }
}
