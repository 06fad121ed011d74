//! Plans: whether they may be used, what they reach, and which one is open to callers without a key.

use std::sync::Arc;

use inferyard_catalog::Plan;
use inferyard_crds::{Others, Reach, owners};

use super::models::EVERYWHERE;
use super::{Linked, Plans};
use crate::known::Known;
use crate::meaning::Meaning;
use crate::object::{Id, Kind};

// === impl Linked ===

impl Linked {
    pub(super) fn add_plans<'a>(&mut self, known: &'a Known) -> Plans<'a> {
        let previews = known.entries(Kind::Plans).filter(|(_, entry)| {
            matches!(&entry.meaning, Some(Meaning::Plan { plan, refusal: None, .. })
                if plan.preview.is_some())
        });
        let preview = owners(previews.map(|(_, entry)| ((), entry.claimant(0))));
        let mut plans = Plans::new();
        for (id, entry) in known.entries(Kind::Plans) {
            let Some(Meaning::Plan {
                plan,
                models,
                reach,
                refusal,
            }) = &entry.meaning
            else {
                continue;
            };
            if let Some(refusal) = refusal {
                let message = format!("{refusal}; the plan is not used");
                self.complain(Kind::Plans, id, &message);
                plans.insert(id, None);
                continue;
            }
            let mut plan = Plan::clone(plan);
            plan.scopes = self.scopes(known, reach);
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
                self.complain(Kind::Plans, id, &message);
                plan.preview = None;
            }
            let plan = Arc::new(plan);
            plans.insert(id, Some(Arc::clone(&plan)));
            // Keys of a key store, and callers without a key, are the platform's.
            if known.platform.includes(&id.namespace) {
                let called = Arc::clone(&plan.name);
                // Stored keys may name any plan with its namespace, also one that needs none.
                let in_full = id.to_string().into();
                self.catalog.plans.insert(in_full, Arc::clone(&plan));
                self.catalog.plans.insert(called, plan);
            }
        }
        plans
    }

    /// Where the names of a plan's callers are looked up.
    fn scopes(&mut self, known: &Known, reach: &Reach) -> Vec<Arc<str>> {
        let others: &[String] = match &reach.others {
            Others::Named(names) => names,
            Others::All => {
                if !self.catalog.names.contains_key(EVERYWHERE) {
                    self.add_everywhere(known);
                }
                &[EVERYWHERE.to_owned()]
            }
        };
        let scopes = std::iter::once(&reach.own).chain(others);
        scopes.map(|scope| scope.as_str().into()).collect()
    }

    /// The ids of the models that a plan names.
    fn canonical(&mut self, id: &Id, plan: &Plan, names: &[String]) -> Vec<Arc<str>> {
        let mut canonical = Vec::with_capacity(names.len());
        for name in names {
            if let Some(model) = self.catalog.model(plan, name) {
                canonical.push(Arc::clone(&model.id));
                canonical.extend(self.alike.get(&model.id).into_iter().flatten().cloned());
            } else {
                let message =
                    format!("spec.models: no ModelDeployment serves a model named {name:?}");
                self.complain(Kind::Plans, id, &message);
            }
        }
        canonical
    }
}
