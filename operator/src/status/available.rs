//! Whether as many workers answer as `spec.availability` asks for.

use inferyard_crds::{ConditionType, ModelDeployment, Reason};

use super::{Said, no, plural, yes};
use crate::validate::share;

/// How many workers have to answer, and whether they do.
pub(super) fn available(resource: &ModelDeployment, answering: i32) -> (i32, Said) {
    let replicas = resource.spec.scaling.replicas;
    if replicas == 0 {
        return (0, yes(Reason::ScaledToZero, super::STOPPED));
    }
    let asked = asked(resource);
    let answer = if answering == 1 {
        "1 worker answers".to_owned()
    } else {
        format!("{answering} workers answer")
    };
    if answering >= asked {
        let message = format!("{answer}, and at least {asked} must");
        return (asked, yes(Reason::EnoughWorkers, &message));
    }
    // More workers are wanted than before: those that are on their way are not missing.
    if let Some(before) = required_before(resource).filter(|before| answering >= *before) {
        let message = format!(
            "{answer}, and at least {before} must; {asked} must once {} are there",
            plural(replicas, "worker")
        );
        return (before, yes(Reason::EnoughWorkers, &message));
    }
    let message = format!("{answer}, and at least {asked} must");
    (asked, no(Reason::TooFewWorkers, &message))
}

/// As the disruption budget counts: all workers but one, if nothing is declared. One always has to answer.
fn asked(resource: &ModelDeployment) -> i32 {
    let replicas = resource.spec.scaling.replicas;
    let declared = resource.spec.availability.as_ref();
    let least = declared.and_then(|declared| declared.min_available.as_ref());
    let most = declared.and_then(|declared| declared.max_unavailable.as_ref());
    let asked = match (least, most) {
        (Some(least), _) => share(least, replicas),
        (None, Some(most)) => replicas.saturating_sub(share(most, replicas)),
        (None, None) => replicas - 1,
    };
    asked.clamp(1, replicas)
}

/// How many had to answer and did, when the status was written last.
fn required_before(resource: &ModelDeployment) -> Option<i32> {
    let before = resource.status.as_ref()?;
    let type_ = ConditionType::Available.as_str();
    let condition = (before.conditions.iter()).find(|condition| condition.type_ == type_)?;
    let required = before.required_replicas;
    (condition.status == "True" && required > 0).then_some(required)
}
