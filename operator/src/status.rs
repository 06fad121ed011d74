//! What is said of a model: counts and conditions, and why it does not answer.

mod accepted;
mod diagnosis;
mod progress;

pub(crate) use accepted::{accepted, write_accepted};

use inferyard_crds::{Condition, ConditionType, ModelDeployment, ModelDeploymentStatus, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::build::{OWNER_LABEL, WORKER};
use crate::observe::{Observed, is_ready};
use crate::validate::{EngineKind, Refusal, Validated};
use diagnosis::{Finding, Step};

/// What is said of a condition.
struct Said {
    status: &'static str,
    reason: Reason,
    message: String,
}

/// What became of a declaration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    Applied(&'a Validated),
    /// It cannot be carried out as it is.
    Refused(&'a Refusal),
    /// It could not be carried out yet, and why.
    Failing(&'a Validated, &'a str),
}

/// The status of a model that is carried out, or of one that is not.
pub(crate) fn status(
    resource: &ModelDeployment,
    outcome: Outcome<'_>,
    observed: &Observed,
    now: Timestamp,
) -> ModelDeploymentStatus {
    let wanted = resource.spec.scaling.replicas;
    let deployment = observed.deployment.as_deref();
    let updated = count(deployment, "updatedReplicas");
    let answering = observed.pods.iter().filter(|pod| is_ready(pod)).count();
    let findings = diagnosis::diagnose(observed);
    let engine = match outcome {
        Outcome::Applied(model) | Outcome::Failing(model, _) => {
            Some(engine_name(&model.engine).to_owned())
        }
        Outcome::Refused(_) => resource
            .status
            .as_ref()
            .and_then(|status| status.engine.clone()),
    };
    let said = match outcome {
        Outcome::Applied(model) => conditions(model, observed, &findings),
        Outcome::Failing(_, why) => vec![
            (ConditionType::Ready, no(Reason::ApplyFailed, why)),
            (ConditionType::Accepted, unknown(Reason::ApplyFailed, why)),
        ],
        Outcome::Refused(refusal) => vec![
            (ConditionType::Ready, no(refusal.reason, &refusal.message)),
            (
                ConditionType::Accepted,
                no(refusal.reason, &refusal.message),
            ),
        ],
    };
    let generation = resource.metadata.generation.unwrap_or(0);
    let before = resource.status.as_ref();
    let before = before.map_or(&[][..], |status| status.conditions.as_slice());
    ModelDeploymentStatus {
        observed_generation: generation,
        model: Some(resource.model_name().to_owned()),
        engine,
        replicas: clamp(observed.pods.len()),
        ready_replicas: clamp(answering),
        updated_replicas: updated,
        workers: Some(format!("{answering}/{wanted}")),
        selector: Some(format!(
            "app.kubernetes.io/name={WORKER},{OWNER_LABEL}={}",
            resource.name_any()
        )),
        loading: progress::loading(observed),
        conditions: dated(said, before, generation, now),
    }
}

/// The `Ready` condition.
pub(crate) fn ready(status: &ModelDeploymentStatus) -> Option<&Condition> {
    let ready = ConditionType::Ready.as_str();
    status.conditions.iter().find(|said| said.type_ == ready)
}

/// Whether somebody has to do something.
pub(crate) fn is_failure(reason: &str) -> bool {
    [
        Reason::Invalid,
        Reason::NameTaken,
        Reason::NotFound,
        Reason::Refused,
        Reason::ApplyFailed,
        Reason::NoNodeFits,
        Reason::StorageClassMissing,
        Reason::ImagePull,
        Reason::ContainerConfig,
        Reason::ContainerFailed,
        Reason::FetchFailed,
        Reason::EngineFailed,
    ]
    .iter()
    .any(|failure| failure.as_str() == reason)
}

fn conditions(
    model: &Validated,
    observed: &Observed,
    findings: &[Finding],
) -> Vec<(ConditionType, Said)> {
    let deployment = observed.deployment.as_deref();
    let note = model
        .note
        .as_deref()
        .unwrap_or("the declaration is carried out");
    let refused = deployment.and_then(replica_failure);
    let worst = findings.iter().min();
    let rollout = rollout(model, deployment);
    let of = |step: Step| {
        findings
            .iter()
            .filter(move |finding| finding.step() == step)
            .min()
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
        (None, ..) => unknown(Reason::Creating, "the workers are not that far yet"),
    };
    let answering = clamp(observed.pods.iter().filter(|pod| is_ready(pod)).count());
    let ready = match (refused, worst) {
        (Some(message), _) => no(Reason::Refused, &message),
        (None, Some(finding)) => no(finding.reason, &finding.text()),
        (None, None) if deployment.is_none() || answering < model.replicas => {
            let lost =
                diagnosis::lost(observed).map_or_else(String::new, |lost| format!("; {lost}"));
            let message = format!("{answering} of {} workers answer{lost}", model.replicas);
            no(Reason::Creating, &message)
        }
        (None, None) if rollout.status != "True" => no(rollout.reason, &rollout.message),
        (None, None) if model.replicas == 0 => yes(
            Reason::ScaledToZero,
            "no worker is wanted: spec.scaling.replicas is 0",
        ),
        (None, None) => yes(
            Reason::AllReady,
            &format!("{answering} of {answering} workers answer"),
        ),
    };
    vec![
        (ConditionType::Ready, ready),
        (ConditionType::Accepted, yes(Reason::Valid, note)),
        (ConditionType::Scheduled, scheduled),
        (ConditionType::WeightsAvailable, weights),
        (ConditionType::RolloutComplete, rollout),
    ]
}

/// Whether all workers run what is declared, and no others do.
fn rollout(model: &Validated, deployment: Option<&DynamicObject>) -> Said {
    let generation = deployment
        .and_then(|live| live.metadata.generation)
        .unwrap_or(0);
    let observed = deployment.and_then(|live| live.data["status"]["observedGeneration"].as_i64());
    let updated = count(deployment, "updatedReplicas");
    let all = count(deployment, "replicas");
    let complete = deployment.is_some()
        && observed.is_some_and(|observed| observed >= generation)
        && updated == model.replicas
        && all == updated;
    if complete {
        return yes(Reason::Complete, "every worker runs what is declared");
    }
    let old = all.saturating_sub(updated);
    let message = format!(
        "{updated} of {} workers run what is declared; {old} old ones are to go",
        model.replicas
    );
    no(Reason::RollingOut, &message)
}

/// What keeps pods from being made at all: a quota, a policy.
fn replica_failure(deployment: &DynamicObject) -> Option<String> {
    let conditions = deployment.data["status"]["conditions"].as_array()?;
    let failure = conditions
        .iter()
        .find(|found| found["type"] == "ReplicaFailure" && found["status"] == "True")?;
    Some(failure["message"].as_str().unwrap_or_default().to_owned())
}

/// A condition keeps its date as long as its status stays.
fn dated(
    said: Vec<(ConditionType, Said)>,
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let dated = said.into_iter().map(|(type_, said)| {
        let type_ = type_.as_str();
        let same =
            (before.iter()).find(|before| before.type_ == type_ && before.status == said.status);
        Condition {
            type_: type_.to_owned(),
            status: said.status.to_owned(),
            reason: said.reason.as_str().to_owned(),
            message: said.message,
            last_transition_time: same
                .map_or(Time(now), |before| before.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    });
    dated.collect()
}

fn yes(reason: Reason, message: &str) -> Said {
    Said {
        status: "True",
        reason,
        message: message.to_owned(),
    }
}

fn no(reason: Reason, message: &str) -> Said {
    Said {
        status: "False",
        reason,
        message: message.to_owned(),
    }
}

fn unknown(reason: Reason, message: &str) -> Said {
    Said {
        status: "Unknown",
        reason,
        message: message.to_owned(),
    }
}

fn engine_name(engine: &EngineKind) -> &'static str {
    match engine {
        EngineKind::Embedded(_) => "embedded",
        EngineKind::Server(kind, _) => kind.as_str(),
    }
}

fn count(deployment: Option<&DynamicObject>, field: &str) -> i32 {
    let value = deployment.and_then(|live| live.data["status"][field].as_i64());
    value.and_then(|value| value.try_into().ok()).unwrap_or(0)
}

fn clamp(count: usize) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
