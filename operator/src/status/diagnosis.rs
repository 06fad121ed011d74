//! Why a pod does not answer, from its status and the state of its worker.

mod ended;
mod no_node;

pub(super) use ended::lost;

use inferyard_crds::Reason;
use inferyard_proto::worker::v1::WorkerState;
use inferyard_proto::worker::v1::worker_state::Phase;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::progress;
use crate::observe::Observed;
use crate::pods::is_ready;

/// Why a pod does not answer. The smallest of several findings has to be fixed first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: Reason,
    message: String,
    pod: String,
    /// The resources that no node has enough of.
    pub(super) missing_resource: Option<String>,
    /// The time since which the pod has no node.
    pub(super) since: Option<Timestamp>,
}

/// The step in the start of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Scheduling,
    Fetching,
    Running,
}

/// The findings of all pods that do not answer.
pub(super) fn diagnose(observed: &Observed) -> Vec<Finding> {
    let waiting = observed.pods.iter().filter(|pod| !is_ready(pod));
    let findings = waiting.map(|pod| {
        let report = observed.reports.get(&pod.name_any());
        let finding = |(reason, message)| Finding {
            reason,
            message,
            pod: pod.name_any(),
            missing_resource: None,
            since: None,
        };
        if let Some(condition) = no_node::unscheduled(pod) {
            let message = condition.message.as_deref().unwrap_or_default();
            return Finding {
                missing_resource: no_node::missing_resources(message),
                since: condition.last_transition_time.as_ref().map(|since| since.0),
                ..finding(no_node::why(pod, condition, observed.volume.as_ref()))
            };
        }
        finding(ended::failure(pod).unwrap_or_else(|| in_progress(pod, report)))
    });
    findings.collect()
}

type Why = (Reason, String);

/// The progress of a pod without a failure.
fn in_progress(pod: &Pod, report: Option<&WorkerState>) -> Why {
    let status = pod.status.as_ref();
    let running = |statuses: Option<&Vec<ContainerStatus>>, name: &str| {
        statuses.into_iter().flatten().any(|container| {
            container.name == name
                && container
                    .state
                    .as_ref()
                    .is_some_and(|state| state.running.is_some())
        })
    };
    let fetching = running(
        status.and_then(|s| s.init_container_statuses.as_ref()),
        "fetch",
    );
    let working = running(status.and_then(|s| s.container_statuses.as_ref()), "worker");
    match (fetching, working, report) {
        (true, ..) => (Reason::Fetching, progress::fetching(report)),
        (_, true, Some(report)) if report.phase() == Phase::Unhealthy => {
            (Reason::EngineFailed, report.note.clone())
        }
        (_, true, Some(report)) => (Reason::Loading, progress::reading(report)),
        (_, true, None) => (Reason::Loading, "the worker is starting".to_owned()),
        (_, false, _) => (Reason::Starting, "its containers are starting".to_owned()),
    }
}

// === impl Finding ===

impl Finding {
    /// The message with the name of the pod.
    pub(super) fn text(&self) -> String {
        format!("{}: {}", self.pod, self.message)
    }

    /// The step that the pod is in.
    pub(super) fn step(&self) -> Step {
        match self.reason {
            Reason::NoNodeFits
            | Reason::SchedulingGated
            | Reason::StorageClassMissing
            | Reason::VolumePending
            | Reason::NotFound => Step::Scheduling,
            Reason::Fetching | Reason::FetchFailed | Reason::Starting => Step::Fetching,
            _ => Step::Running,
        }
    }

    fn rank(&self) -> usize {
        const FIRST: [Reason; 13] = [
            Reason::NotFound,
            Reason::StorageClassMissing,
            Reason::NoNodeFits,
            Reason::ImagePull,
            Reason::ContainerConfig,
            Reason::FetchFailed,
            Reason::EngineFailed,
            Reason::ContainerFailed,
            Reason::SchedulingGated,
            Reason::VolumePending,
            Reason::Fetching,
            Reason::Loading,
            Reason::Starting,
        ];
        let place = FIRST.iter().position(|reason| *reason == self.reason);
        place.unwrap_or(FIRST.len())
    }
}

impl Ord for Finding {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.rank(), &self.pod).cmp(&(other.rank(), &other.pod))
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
