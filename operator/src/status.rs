//! The status of a model: counts of workers, conditions, and the reason why the model does not answer.

mod accepted;
mod diagnosis;
mod progress;
mod rollout;
mod available;
mod conditions;

pub(crate) use accepted::{accepted, write_accepted};

use inferyard_crds::{
    APPLICATION_LABEL, Condition, ConditionType, ModelDeployment, ModelDeploymentStatus,
    OWNER_LABEL, Reason, WORKER_APPLICATION,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::observe::Observed;
use crate::validate::{EngineKind, Refusal, Validated};
use rollout::Rollout;

/// The message for a model without workers.
const STOPPED: &str = "no worker is desired: spec.scaling.replicas is 0";

/// The value of a condition.
struct ConditionValue {
    status: &'static str,
    reason: Reason,
    message: String,
}

/// The outcome of a reconcile.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    Applied(&'a Validated),
    /// The declaration is refused.
    Refused(&'a Refusal),
    /// The declaration is refused, and no name is left by which callers reach the running workers.
    Unreachable(&'a Refusal),
    /// The declaration could not be applied yet, for this reason.
    Failing(&'a Validated, &'a str),
}

/// The status of a model after a reconcile.
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
        Outcome::Refused(_) | Outcome::Unreachable(_) => resource
            .status
            .as_ref()
            .and_then(|status| status.engine.clone()),
    };
    let (required, mut available) = available::available(resource, answering);
    if let Outcome::Unreachable(refusal) = outcome {
        available = condition_false(refusal.reason, "no name is left that leads to its workers");
    }
    let mut values = conditions::conditions(outcome, observed, &rollout, now);
    values.insert(1, (ConditionType::Available, available));
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
            Outcome::Refused(_) | Outcome::Unreachable(_) => 0,
        },
        required_replicas: required,
        workers: Some(format!("{answering}/{wanted}")),
        selector: Some(format!(
            "{APPLICATION_LABEL}={WORKER_APPLICATION},{OWNER_LABEL}={}",
            resource.name_any()
        )),
        loading: progress::loading(observed),
        conditions: with_transition_times(values, before, generation, now),
    }
}

/// The `Ready` condition.
pub(crate) fn ready(status: &ModelDeploymentStatus) -> Option<&Condition> {
    let ready = ConditionType::Ready.as_str();
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ready)
}

/// Whether a person has to act on this reason.
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

/// Adds transition times: a condition keeps its time while its status stays the same.
fn with_transition_times(
    values: Vec<(ConditionType, ConditionValue)>,
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let conditions = values.into_iter().map(|(type_, value)| {
        let type_ = type_.as_str();
        let same =
            (before.iter()).find(|before| before.type_ == type_ && before.status == value.status);
        Condition {
            type_: type_.to_owned(),
            status: value.status.to_owned(),
            reason: value.reason.as_str().to_owned(),
            message: value.message,
            last_transition_time: same
                .map_or(Time(now), |before| before.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    });
    conditions.collect()
}

fn condition_true(reason: Reason, message: &str) -> ConditionValue {
    ConditionValue {
        status: "True",
        reason,
        message: message.to_owned(),
    }
}

fn condition_false(reason: Reason, message: &str) -> ConditionValue {
    ConditionValue {
        status: "False",
        reason,
        message: message.to_owned(),
    }
}

fn condition_unknown(reason: Reason, message: &str) -> ConditionValue {
    ConditionValue {
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
