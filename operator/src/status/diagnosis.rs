//! Why a pod does not answer, read from what Kubernetes and the worker say of it.

use std::sync::LazyLock;

use inferyard_crds::Reason;
use inferyard_proto::worker::v1::WorkerState;
use inferyard_proto::worker::v1::worker_state::Phase;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;
use regex::Regex;

use super::progress;
use crate::observe::{Observed, Volume, is_ready};

/// The most of a container's last words that is shown, in bytes.
const LAST_WORDS: usize = 800;
/// Containers whose log holds no prompt and no answer. An engine's log may: its last words are not shown.
const OWN: [&str; 2] = ["worker", "fetch"];
/// Containers that the operator makes. All others are the user's, or injected, by a service mesh for instance.
const MADE: [&str; 3] = ["worker", "fetch", "engine"];
/// What the kubelet says of a container that it does not start at once, because it has ended before.
const BACK_OFF: &str = "CrashLoopBackOff";

/// Why a pod does not answer. The least of several is what has to be mended first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: Reason,
    message: String,
    pod: String,
}

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Scheduling,
    Fetching,
    Running,
}

/// All pods that do not answer, and why.
pub(super) fn diagnose(observed: &Observed) -> Vec<Finding> {
    let waiting = observed.pods.iter().filter(|pod| !is_ready(pod));
    let findings = waiting.map(|pod| {
        let report = observed.reports.get(&pod.name_any());
        let (reason, message) = unscheduled(pod, observed.volume.as_ref())
            .or_else(|| stuck(pod))
            .unwrap_or_else(|| on_its_way(pod, report));
        Finding {
            reason,
            message,
            pod: pod.name_any(),
        }
    });
    findings.collect()
}

/// What became of the pod that was lost last, for instance to an eviction.
pub(super) fn lost(observed: &Observed) -> Option<String> {
    let last = (observed.over.iter()).max_by_key(|pod| pod.creation_timestamp())?;
    let status = last.status.as_ref()?;
    let said = [&status.reason, &status.message];
    let said: Vec<_> = said.into_iter().flatten().map(String::as_str).collect();
    Some(format!(
        "{} has ended: {}",
        last.name_any(),
        said.join(": ")
    ))
    .filter(|_| !said.is_empty())
}

type Why = (Reason, String);

/// No node for it.
fn unscheduled(pod: &Pod, volume: Option<&Volume>) -> Option<Why> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = (conditions.iter())
        .find(|found| found.type_ == "PodScheduled" && found.status == "False")?;
    let said = condition.message.as_deref().unwrap_or_default();
    let claim = said.contains("PersistentVolumeClaim") || said.contains("persistentvolumeclaim");
    Some(match volume {
        // The scheduler's `… unbound immediate PersistentVolumeClaims. not found` is another matter.
        _ if said.contains("persistentvolumeclaim \"") && said.contains("not found") => {
            (Reason::NotFound, said.to_owned())
        }
        Some(Volume::ClassMissing(Some(class))) => {
            let message =
                format!("its volume waits for the storage class {class:?}, which does not exist");
            (Reason::StorageClassMissing, message)
        }
        Some(Volume::ClassMissing(None)) => {
            let message = "its volume waits for a default storage class, which the cluster does not have: \
                           set spec.weights.storage.storageClassName";
            (Reason::StorageClassMissing, message.to_owned())
        }
        Some(Volume::Pending(claim)) => {
            let message =
                format!("the volume of PersistentVolumeClaim {claim} is not there yet: {said}");
            (Reason::VolumePending, message)
        }
        None if claim => (Reason::VolumePending, said.to_owned()),
        None => (Reason::NoNodeFits, no_node(said)),
    })
}

/// The scheduler's words, with the resource that is short in front.
fn no_node(said: &str) -> String {
    static SHORT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"Insufficient ([^,.\s]+(?:\.[^,.\s]+)*)").expect("the pattern should be valid")
    });
    // The preemption's part says the same again.
    let said = said.split(" preemption:").next().unwrap_or_default();
    let said = said.trim().trim_end_matches([',', ' ']);
    let mut short: Vec<_> = (SHORT.captures_iter(said))
        .filter_map(|found| found.get(1))
        .map(|name| name.as_str())
        .collect();
    short.sort_unstable();
    short.dedup();
    if short.is_empty() {
        format!("no node fits: {said}")
    } else {
        format!("no node has enough {}: {said}", short.join(", "))
    }
}

/// A container that cannot be started, or that ended.
fn stuck(pod: &Pod) -> Option<Why> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let init = init.map(|container| (container, runs_to_its_end(pod, &container.name)));
    let beside = status.container_statuses.iter().flatten();
    let mut all = init.chain(beside.map(|container| (container, false)));
    all.find_map(|(container, completes)| {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        let word = waiting
            .and_then(|waiting| waiting.reason.as_deref())
            .unwrap_or_default();
        let said = waiting
            .and_then(|waiting| waiting.message.as_deref())
            .unwrap_or_default();
        let name = &container.name;
        match word {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable" => {
                let message = format!(
                    "the image {} of {name} cannot be pulled: {said}",
                    container.image
                );
                Some((Reason::ImagePull, message))
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some((
                Reason::ContainerConfig,
                format!("{name} cannot be started: {said}"),
            )),
            _ => ended(container, completes, word == BACK_OFF),
        }
    })
}

/// Whether an init container is done when it ends: a sidecar, which is one too, should run as long as its pod.
fn runs_to_its_end(pod: &Pod, name: &str) -> bool {
    let init = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_ref());
    let declared = init
        .into_iter()
        .flatten()
        .find(|declared| declared.name == name);
    declared.is_none_or(|declared| declared.restart_policy.as_deref() != Some("Always"))
}

/// A container that ended otherwise than it should; one of our own with its last words. `completes`: it is meant to
/// end. `backs_off`: it has ended several times.
fn ended(container: &ContainerStatus, completes: bool, backs_off: bool) -> Option<Why> {
    let terminated = |state: Option<&ContainerState>| state?.terminated.clone();
    let running = container
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some());
    let end = terminated(container.state.as_ref())
        .or_else(|| terminated(container.last_state.as_ref()).filter(|_| !running))?;
    let name = &container.name;
    let made = MADE.contains(&&**name);
    // What is not ours and ends well is started again, if it has to be, without anybody's help.
    if end.exit_code == 0 && (completes || !made && !backs_off) {
        return None;
    }
    let words = end.message.as_deref().map(last_words);
    let words = words.filter(|words| !words.is_empty() && OWN.contains(&&**name));
    let cause = end.reason.as_deref().unwrap_or("Error");
    let mut message = format!("{name} ended with exit code {} ({cause})", end.exit_code);
    match container.restart_count {
        0 => {}
        1 => message.push_str(", 1 restart"),
        count => message = format!("{message}, {count} restarts"),
    }
    if end.exit_code == 0 && !made {
        message.push_str("; it has to run as long as its pod");
    }
    if let Some(words) = words {
        message = format!("{message}: {words}");
    }
    let reason = match &**name {
        "fetch" => Reason::FetchFailed,
        _ if made => Reason::EngineFailed,
        _ => Reason::ContainerFailed,
    };
    Some((reason, message))
}

/// The end of a log in one line, since `kubectl get` shows no more. Where a program says at last what was
/// wrong, as ours do, what it had logged before is left out.
fn last_words(log: &str) -> String {
    let lines: Vec<_> = (log.lines().map(str::trim))
        .filter(|line| !line.is_empty())
        .collect();
    let said = lines.iter().rposition(|line| line.starts_with("error:"));
    let line = lines[said.unwrap_or(0)..].join(" | ");
    match line.len().checked_sub(LAST_WORDS) {
        Some(too_many) => line[line.ceil_char_boundary(too_many)..].to_owned(),
        None => line,
    }
}

/// Nothing is wrong yet.
fn on_its_way(pod: &Pod, report: Option<&WorkerState>) -> Why {
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
    /// For people, with the pod.
    pub(super) fn text(&self) -> String {
        format!("{}: {}", self.pod, self.message)
    }

    /// Where it stands on its way.
    pub(super) fn step(&self) -> Step {
        match self.reason {
            Reason::NoNodeFits
            | Reason::StorageClassMissing
            | Reason::VolumePending
            | Reason::NotFound => Step::Scheduling,
            Reason::Fetching | Reason::FetchFailed | Reason::Starting => Step::Fetching,
            _ => Step::Running,
        }
    }

    fn rank(&self) -> usize {
        const FIRST: [Reason; 12] = [
            Reason::NotFound,
            Reason::StorageClassMissing,
            Reason::NoNodeFits,
            Reason::ImagePull,
            Reason::ContainerConfig,
            Reason::FetchFailed,
            Reason::EngineFailed,
            Reason::ContainerFailed,
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
