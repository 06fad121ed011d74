//! The condition `Available`: whether as many workers are ready as `spec.availability` requires.

use inferyard_crds::{ConditionType, ModelDeployment, Reason};

use super::{ConditionValue, condition_false, condition_true, plural};
use crate::validate::share;

/// The number of workers that have to be ready, and the condition.
pub(super) fn available(resource: &ModelDeployment, answering: i32) -> (i32, ConditionValue) {
    let replicas = resource.spec.scaling.replicas;
    if replicas == 0 {
        return (0, condition_true(Reason::ScaledToZero, super::STOPPED));
    }
    let required = required(resource);
    let answer = if answering == 1 {
        "1 worker answers".to_owned()
    } else {
        format!("{answering} workers answer")
    };
    if answering >= required {
        let message = format!("{answer}, and at least {required} must");
        return (required, condition_true(Reason::EnoughWorkers, &message));
    }
    // During a scale-up, workers that start are not missing.
    if let Some(before) = required_before(resource).filter(|before| answering >= *before) {
        let message = format!(
            "{answer}, and at least {before} must; {required} must once {} are there",
            plural(replicas, "worker")
        );
        return (before, condition_true(Reason::EnoughWorkers, &message));
    }
    let message = format!("{answer}, and at least {required} must");
    (required, condition_false(Reason::TooFewWorkers, &message))
}

/// The required number, counted as for the disruption budget: by default all workers but one, and at least one.
fn required(resource: &ModelDeployment) -> i32 {
    let replicas = resource.spec.scaling.replicas;
    let declared = resource.spec.availability.as_ref();
    let least = declared.and_then(|declared| declared.min_available.as_ref());
    let most = declared.and_then(|declared| declared.max_unavailable.as_ref());
    let required = match (least, most) {
        (Some(least), _) => share(least, replicas),
        (None, Some(most)) => replicas.saturating_sub(share(most, replicas)),
        (None, None) => replicas - 1,
    };
    required.clamp(1, replicas)
}

/// The required number of the last status, if it was fulfilled then.
fn required_before(resource: &ModelDeployment) -> Option<i32> {
    let before = resource.status.as_ref()?;
    let type_ = ConditionType::Available.as_str();
    let condition = (before.conditions.iter()).find(|condition| condition.type_ == type_)?;
    let required = before.required_replicas;
    (condition.status == "True" && required > 0).then_some(required)
}
