//! What is said of a model: counts and conditions, and why it does not answer.

mod accepted;
mod diagnosis;
mod progress;
mod rollout;
mod available;
mod conditions;

pub(crate) use accepted::{accepted, write_accepted};

use inferyard_crds::{Condition, ConditionType, ModelDeployment, ModelDeploymentStatus, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::names::{OWNER_LABEL, WORKER};
use crate::observe::Observed;
use crate::validate::{EngineKind, Refusal, Validated};
use rollout::Rollout;

/// What is said of a model that wants no worker.
const STOPPED: &str = "no worker is wanted: spec.scaling.replicas is 0";

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
    /// The same, and no name is left by which callers reach the workers that run.
    Nameless(&'a Refusal),
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
    let rollout = Rollout::new(wanted, observed);
    let answering = rollout.answering;
    let engine = match outcome {
        Outcome::Applied(model) | Outcome::Failing(model, _) => {
            Some(engine_name(&model.engine).to_owned())
        }
        Outcome::Refused(_) | Outcome::Nameless(_) => resource
            .status
            .as_ref()
            .and_then(|status| status.engine.clone()),
    };
    let (required, mut available) = available::available(resource, answering);
    if let Outcome::Nameless(refusal) = outcome {
        available = no(refusal.reason, "no name is left that leads to its workers");
    }
    let mut said = conditions::conditions(outcome, observed, &rollout, now);
    said.insert(1, (ConditionType::Available, available));
    let generation = resource.metadata.generation.unwrap_or(0);
    let before = resource.status.as_ref();
    let before = before.map_or(&[][..], |status| status.conditions.as_slice());
    ModelDeploymentStatus {
        observed_generation: generation,
        managed_by: None,
        model: Some(resource.model_name().to_owned()),
        engine,
        replicas: clamp(observed.pods.len()),
        ready_replicas: answering,
        updated_replicas: match outcome {
            Outcome::Applied(_) => rollout.updated,
            Outcome::Failing(..) => rollout.new,
            Outcome::Refused(_) | Outcome::Nameless(_) => 0,
        },
        required_replicas: required,
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
        Reason::RolloutWaits,
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

/// `1 worker`, `2 workers`.
fn plural(count: i32, name: &str) -> String {
    if count == 1 {
        format!("1 {name}")
    } else {
        format!("{count} {name}s")
    }
}

fn clamp(count: usize) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
