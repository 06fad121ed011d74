//! The conditions of a model, from what became of its declaration and its pods.

use inferyard_crds::{ConditionType, Reason};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;

use super::diagnosis::{self, Finding, Step};
use super::rollout::Rollout;
use super::{Outcome, STOPPED, Said, clamp, is_failure, no, unknown, yes};
use crate::observe::Observed;
use crate::validate::Validated;

/// How long a pod without a node may be waiting for a node that is being added. Nothing that the operator may read
/// says whether one is.
const NEW_NODE: SignedDuration = SignedDuration::from_mins(10);

type All = Vec<(ConditionType, Said)>;

/// All but `Available`.
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
                (ConditionType::Ready, no(Reason::ApplyFailed, &message)),
                (ConditionType::Progressing, no(Reason::ApplyFailed, why)),
                (ConditionType::Accepted, unknown(Reason::ApplyFailed, why)),
            ]
        }
        Outcome::Refused(refusal) | Outcome::Nameless(refusal) => {
            let (reason, why) = (refusal.reason, &refusal.message);
            let meanwhile = match outcome {
                Outcome::Nameless(_) => String::new(),
                _ => rollout.meanwhile(),
            };
            let message = format!("{why}{meanwhile}");
            vec![
                (ConditionType::Ready, no(reason, &message)),
                (ConditionType::Progressing, no(reason, why)),
                (ConditionType::Accepted, no(reason, why)),
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
        yes(Reason::Complete, "every worker runs what is declared")
    } else {
        no(Reason::RollingOut, &rollout.text())
    };
    let progressing = progressing(&ready, worst, now);
    let [scheduled, weights] = steps(model, observed, &findings);
    vec![
        (ConditionType::Ready, ready),
        (ConditionType::Progressing, progressing),
        (ConditionType::Accepted, yes(Reason::Valid, note)),
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
) -> Said {
    let deployment = observed.deployment.as_deref();
    let meanwhile = rollout.meanwhile();
    let (answering, wanted) = (rollout.answering, model.replicas);
    match (deployment.and_then(replica_failure), worst) {
        (Some(message), _) => no(Reason::Refused, &format!("{message}{meanwhile}")),
        // An old worker that ends makes room, but lets no node fit that did not fit before.
        (None, Some(finding))
            if let (Some(short), true) = (&finding.short, rollout.is_blocked()) =>
        {
            let message = format!(
                "the rollout waits for {short}: {}{meanwhile}; with spec.rollout.maxSurge: 0 an old worker ends first \
                 and makes room",
                finding.text()
            );
            no(Reason::RolloutWaits, &message)
        }
        (None, Some(finding)) => no(finding.reason, &format!("{}{meanwhile}", finding.text())),
        (None, None) if deployment.is_none() || answering < wanted => {
            let lost =
                diagnosis::lost(observed).map_or_else(String::new, |lost| format!("; {lost}"));
            let message = format!("{answering} of {wanted} workers answer{lost}");
            no(Reason::Creating, &message)
        }
        (None, None) if !rollout.complete => no(Reason::RollingOut, &rollout.text()),
        (None, None) if wanted == 0 => yes(Reason::ScaledToZero, STOPPED),
        (None, None) => yes(
            Reason::AllReady,
            &format!("{answering} of {answering} workers answer"),
        ),
    }
}

/// Whether what is declared comes about without anybody's help.
fn progressing(ready: &Said, worst: Option<&Finding>, now: Timestamp) -> Said {
    if ready.status == "True" {
        return yes(Reason::Complete, "what is declared is carried out");
    }
    let may_get_a_node = matches!(ready.reason, Reason::NoNodeFits | Reason::RolloutWaits)
        && worst
            .and_then(|finding| finding.since)
            .is_some_and(|since| now.duration_since(since) < NEW_NODE);
    if is_failure(ready.reason.as_str()) && !may_get_a_node {
        no(ready.reason, &ready.message)
    } else {
        yes(ready.reason, &ready.message)
    }
}

/// `Scheduled` and `WeightsAvailable`.
fn steps(model: &Validated, observed: &Observed, findings: &[Finding]) -> [Said; 2] {
    let of = |step: Step| {
        let at_step = findings
            .iter()
            .filter(move |finding| finding.step() == step);
        at_step.min()
    };
    let scheduled = match (of(Step::Scheduling), observed.pods.len()) {
        (Some(finding), _) => no(finding.reason, &finding.text()),
        (None, pods) if clamp(pods) < model.replicas => {
            unknown(Reason::Creating, "not all pods exist yet")
        }
        (None, _) => yes(Reason::AllScheduled, "every worker has a node"),
    };
    let weights = match (
        of(Step::Fetching),
        of(Step::Scheduling),
        observed.pods.is_empty(),
    ) {
        (Some(finding), ..) => no(finding.reason, &finding.text()),
        (None, None, false) => yes(Reason::Available, "every worker has the weights"),
        (None, ..) => unknown(Reason::Creating, "the workers have no node yet"),
    };
    [scheduled, weights]
}

/// What keeps pods from being made at all: a quota, a policy.
fn replica_failure(deployment: &DynamicObject) -> Option<String> {
    let conditions = deployment.data["status"]["conditions"].as_array()?;
    let failure = conditions
        .iter()
        .find(|found| found["type"] == "ReplicaFailure" && found["status"] == "True")?;
    Some(failure["message"].as_str().unwrap_or_default().to_owned())
}
