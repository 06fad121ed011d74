//! The status of a `Plan`: whether it is allowed, and whether the models that it names exist.

use std::collections::{BTreeMap, BTreeSet};

use inferyard_crds::{ModelDeployment, Plan, PlanStatus, Platform, Reason, nearest, owners};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::dereference::{claimant, id, names};
use crate::status::accepted;

/// The plans, with everything that they are checked against.
pub(crate) struct Plans<'a> {
    platform: &'a Platform,
    /// Names and aliases of models, by namespace.
    models: BTreeMap<String, BTreeSet<&'a str>>,
    /// The plan that is open to callers without a key.
    preview: Option<(String, String)>,
    permissions: BTreeMap<(String, String), Permission>,
}

/// Whether keys may use a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Allowed,
    /// The plan sets a field that only a plan of the platform may set.
    Refused,
}

type Refused = (Reason, String);

// === impl Plans ===

impl<'a> Plans<'a> {
    pub(crate) fn new(
        platform: &'a Platform,
        plans: &[&Plan],
        models: impl IntoIterator<Item = &'a ModelDeployment>,
    ) -> Self {
        let mut served: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for model in models {
            let namespace = model.namespace().unwrap_or_default();
            served.entry(namespace).or_default().extend(names(model));
        }
        let permission = |plan: &Plan| {
            let namespace = plan.namespace().unwrap_or_default();
            match platform.refusal(&namespace, &plan.spec) {
                None => Permission::Allowed,
                Some(_) => Permission::Refused,
            }
        };
        let open = plans.iter().filter(|plan| plan.spec.preview.is_some());
        let open = open.filter(|plan| permission(plan) == Permission::Allowed);
        let preview = owners(open.map(|plan| ((), claimant(*plan, 0))));
        let preview = preview.get(&()).map(|owner| (owner.namespace, owner.name));
        Self {
            platform,
            models: served,
            preview: preview.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            permissions: plans
                .iter()
                .map(|plan| (id(*plan), permission(plan)))
                .collect(),
        }
    }

    /// Whether keys of this namespace may use this plan. None: the plan does not exist.
    pub(crate) fn permission(&self, namespace: &str, plan: &str) -> Option<Permission> {
        let id = (namespace.to_owned(), plan.to_owned());
        self.permissions.get(&id).copied()
    }

    /// The status that a plan should have.
    pub(crate) fn status(&self, plan: &Plan, now: Timestamp) -> PlanStatus {
        let generation = plan.metadata.generation.unwrap_or(0);
        let before = plan.status.as_ref();
        let before = before.map_or(&[][..], |status| &status.conditions);
        PlanStatus {
            observed_generation: generation,
            conditions: accepted(self.check(plan), before, generation, now),
        }
    }

    fn check(&self, plan: &Plan) -> Result<String, Refused> {
        let id = id(plan);
        let namespace = &id.0;
        if let Some(refusal) = self.platform.refusal(namespace, &plan.spec) {
            return Err((Reason::NotAllowed, refusal));
        }
        if plan.spec.preview.is_some()
            && let Some((owner_namespace, owner)) = self.preview.as_ref().filter(|it| **it != id)
        {
            let message = format!(
                "spec.preview: the older Plan {owner_namespace}/{owner} is open to callers without a key \
                 already, and only one can be; leave the field out of one of them"
            );
            return Err((Reason::NameTaken, message));
        }
        let reach = self.platform.reach(namespace, &plan.spec);
        let reached = self.models.iter().filter(|(of, _)| reach.includes(of));
        let reached: Vec<_> = reached.map(|(_, names)| names).collect();
        let named = plan.spec.models.iter().flatten().map(String::as_str);
        if plan.spec.models.is_none() {
            return Ok("all models that it reaches may be used".to_owned());
        }
        let missing: Vec<_> = named
            .filter(|name| !reached.iter().any(|names| names.contains(name)))
            .collect();
        if missing.is_empty() {
            return Ok("every model that it names exists".to_owned());
        }
        let missing = missing.into_iter().map(|name| {
            let known = reached.iter().flat_map(|names| names.iter().copied());
            match nearest(name, known) {
                Some(near) => format!("{name} (did you mean {near}?)"),
                None => name.to_owned(),
            }
        });
        let missing = missing.collect::<Vec<_>>().join(", ");
        let message = format!("spec.models: no ModelDeployment that it reaches serves {missing}");
        Err((Reason::NotFound, message))
    }
}

#[cfg(test)]
pub(crate) mod tests;
