//! The conditions of a model, from the outcome of the reconcile and the state of the pods.

use inferyard_crds::{ConditionType, Reason};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;

use super::diagnosis::{self, Finding, Step};
use super::rollout::Rollout;
use super::{
    ConditionValue, Outcome, STOPPED, clamp, condition_false, condition_true, condition_unknown,
    is_failure,
};
use crate::observe::Observed;
use crate::validate::Validated;

/// How long a pod without a node counts as waiting for a new node. The operator cannot read whether an autoscaler adds
/// one.
const NEW_NODE: SignedDuration = SignedDuration::from_mins(10);

type All = Vec<(ConditionType, ConditionValue)>;

/// All conditions except `Available`.
pub(super) fn conditions(
    outcome: Outcome<'_>,
    observed: &Observed,
    rollout: &Rollout,
    now: Timestamp,
) -> All {
    match outcome {
        Outcome::Applied(model) => applied(model, observed, rollout, now),
        Outcome::Failing(_, why) => {
            let message = format!("{why}{}", rollout.meanwhile());
            vec![
                (
                    ConditionType::Ready,
                    condition_false(Reason::ApplyFailed, &message),
                ),
                (
                    ConditionType::Progressing,
                    condition_false(Reason::ApplyFailed, why),
                ),
                (
                    ConditionType::Accepted,
                    condition_unknown(Reason::ApplyFailed, why),
                ),
            ]
        }
        Outcome::Refused(refusal) | Outcome::Unreachable(refusal) => {
            let (reason, why) = (refusal.reason, &refusal.message);
            let meanwhile = match outcome {
                Outcome::Unreachable(_) => String::new(),
                _ => rollout.meanwhile(),
            };
            let message = format!("{why}{meanwhile}");
            vec![
                (ConditionType::Ready, condition_false(reason, &message)),
                (ConditionType::Progressing, condition_false(reason, why)),
                (ConditionType::Accepted, condition_false(reason, why)),
            ]
        }
    }
}

fn applied(model: &Validated, observed: &Observed, rollout: &Rollout, now: Timestamp) -> All {
    let findings = diagnosis::diagnose(observed);
    let worst = findings.iter().min();
    let ready = ready(model, observed, worst, rollout);
    let note = model.note.as_deref().unwrap_or("the declaration is valid");
    let complete = if rollout.complete {
        condition_true(Reason::Complete, "every worker runs what is declared")
    } else {
        condition_false(Reason::RollingOut, &rollout.text())
    };
    let progressing = progressing(&ready, worst, now);
    let [scheduled, weights] = steps(model, observed, &findings);
    vec![
        (ConditionType::Ready, ready),
        (ConditionType::Progressing, progressing),
        (ConditionType::Accepted, condition_true(Reason::Valid, note)),
        (ConditionType::Scheduled, scheduled),
        (ConditionType::WeightsAvailable, weights),
        (ConditionType::RolloutComplete, complete),
    ]
}

fn ready(
    model: &Validated,
    observed: &Observed,
    worst: Option<&Finding>,
    rollout: &Rollout,
) -> ConditionValue {
    let deployment = observed.deployment.as_deref();
    let meanwhile = rollout.meanwhile();
    let (answering, wanted) = (rollout.answering, model.replicas);
    match (deployment.and_then(replica_failure), worst) {
        (Some(message), _) => condition_false(Reason::Refused, &format!("{message}{meanwhile}")),
        // The end of an old worker frees resources, but makes no node fit for other reasons.
        (None, Some(finding))
            if let (Some(short), true) = (&finding.missing_resource, rollout.is_blocked()) =>
        {
            let message = format!(
                "the rollout waits for {short}: {}{meanwhile}; with spec.rollout.maxSurge: 0 an old worker ends first \
                 and makes room",
                finding.text()
            );
            condition_false(Reason::RolloutWaits, &message)
        }
        (None, Some(finding)) => {
            condition_false(finding.reason, &format!("{}{meanwhile}", finding.text()))
        }
        (None, None) if deployment.is_none() || answering < wanted => {
            let lost =
                diagnosis::lost(observed).map_or_else(String::new, |lost| format!("; {lost}"));
            let message = format!("{answering} of {wanted} workers answer{lost}");
            condition_false(Reason::Creating, &message)
        }
        (None, None) if !rollout.complete => condition_false(Reason::RollingOut, &rollout.text()),
        (None, None) if wanted == 0 => condition_true(Reason::ScaledToZero, STOPPED),
        (None, None) => condition_true(
            Reason::AllReady,
            &format!("{answering} of {answering} workers answer"),
        ),
    }
}

/// Whether the declaration takes effect without intervention.
fn progressing(ready: &ConditionValue, worst: Option<&Finding>, now: Timestamp) -> ConditionValue {
    if ready.status == "True" {
        return condition_true(Reason::Complete, "what is declared is carried out");
    }
    let may_get_a_node = matches!(ready.reason, Reason::NoNodeFits | Reason::RolloutWaits)
        && worst
            .and_then(|finding| finding.since)
            .is_some_and(|since| now.duration_since(since) < NEW_NODE);
    if is_failure(ready.reason.as_str()) && !may_get_a_node {
        condition_false(ready.reason, &ready.message)
    } else {
        condition_true(ready.reason, &ready.message)
    }
}

/// The conditions `Scheduled` and `WeightsAvailable`.
fn steps(model: &Validated, observed: &Observed, findings: &[Finding]) -> [ConditionValue; 2] {
    let of = |step: Step| {
        let at_step = findings
            .iter()
            .filter(move |finding| finding.step() == step);
        at_step.min()
    };
    let scheduled = match (of(Step::Scheduling), observed.pods.len()) {
        (Some(finding), _) => condition_false(finding.reason, &finding.text()),
        (None, pods) if clamp(pods) < model.replicas => {
            condition_unknown(Reason::Creating, "not all pods exist yet")
        }
        (None, _) => condition_true(Reason::AllScheduled, "every worker has a node"),
    };
    let weights = match (
        of(Step::Fetching),
        of(Step::Scheduling),
        observed.pods.is_empty(),
    ) {
        (Some(finding), ..) => condition_false(finding.reason, &finding.text()),
        (None, None, false) => condition_true(Reason::Available, "every worker has the weights"),
        (None, ..) => condition_unknown(Reason::Creating, "the workers have no node yet"),
    };
    [scheduled, weights]
}

/// Why Kubernetes cannot create pods, such as a quota or a policy.
fn replica_failure(deployment: &DynamicObject) -> Option<String> {
    let conditions = deployment.data["status"]["conditions"].as_array()?;
    let failure = conditions
        .iter()
        .find(|found| found["type"] == "ReplicaFailure" && found["status"] == "True")?;
    Some(failure["message"].as_str().unwrap_or_default().to_owned())
}
