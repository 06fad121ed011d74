//! Whether what a `Plan` names exists, said in its status.

use std::collections::BTreeSet;

use inferyard_crds::{ModelDeployment, Plan, PlanStatus, Reason, nearest};
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};

use crate::claims::Claims;
use crate::dereference::names;
use crate::metrics::Metrics;
use crate::status::{accepted, write_accepted};

/// Checks all plans.
pub(crate) async fn check_all(
    client: &Client,
    metrics: &Metrics,
    claims: &Claims,
    plans: &Store<DeserializeGuard<Plan>>,
    models: &Store<DeserializeGuard<ModelDeployment>>,
) {
    let models = models.state();
    for plan in plans.state() {
        let Ok(plan) = &plan.0 else { continue };
        let namespace = plan.namespace();
        if !claims.is_ours(namespace.as_deref().unwrap_or_default()) {
            continue;
        }
        let served: BTreeSet<&str> = (models.iter())
            .filter_map(|model| model.0.as_ref().ok())
            .filter(|model| model.namespace() == namespace)
            .flat_map(names)
            .collect();
        let status = status(plan, &served, Timestamp::now());
        if plan.status.as_ref() == Some(&status) {
            continue;
        }
        let api = Api::<Plan>::namespaced(client.clone(), &namespace.unwrap_or_default());
        let written = write_accepted(&api, "Plan", &plan.name_any(), &status).await;
        metrics.reconciled("Plan", written);
    }
}

fn status(plan: &Plan, served: &BTreeSet<&str>, now: Timestamp) -> PlanStatus {
    let named = plan.spec.models.iter().flatten();
    let missing: Vec<&str> = (named.map(String::as_str))
        .filter(|name| !served.contains(name))
        .collect();
    let said = if missing.is_empty() {
        Ok("every model that it names exists".to_owned())
    } else {
        let named = missing.iter().map(|name| {
            let near = nearest(name, served.iter().copied());
            near.map_or_else(
                || (*name).to_owned(),
                |near| format!("{name} (did you mean {near}?)"),
            )
        });
        let named: Vec<_> = named.collect();
        let message = format!(
            "spec.models: no ModelDeployment serves {}",
            named.join(", ")
        );
        Err((Reason::NotFound, message))
    };
    let generation = plan.metadata.generation.unwrap_or(0);
    let before = plan
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    PlanStatus {
        observed_generation: generation,
        conditions: accepted(said, before, generation, now),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_that_nobody_serves_may_be_a_slip() {
        let plan = |models: &[&str]| {
            let plan = json!({
                "apiVersion": inferyard_crds::API_VERSION, "kind": "Plan",
                "metadata": { "name": "p" }, "spec": { "models": models },
            });
            serde_json::from_value::<Plan>(plan).unwrap()
        };
        let served = BTreeSet::from(["demo", "qwen3-8b"]);
        let table: [(&[&str], &str); 3] = [
            (
                &["dmeo"],
                "no ModelDeployment serves dmeo (did you mean demo?)",
            ),
            (
                &["demo", "other", "qwen3-8"],
                "no ModelDeployment serves other, qwen3-8 (did you mean qwen3-8b?)",
            ),
            (&["demo"], "every model that it names exists"),
        ];
        for (models, expected) in table {
            let status = status(&plan(models), &served, Timestamp::UNIX_EPOCH);
            let said = &status.conditions[0].message;
            assert!(said.ends_with(expected), "{said}");
        }
    }
}
