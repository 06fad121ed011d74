//! Containers that cannot be started or have ended, and pods that were lost.

use inferyard_crds::Reason;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use super::Why;
use crate::observe::Observed;

/// The limit of the shown log lines of a container in bytes.
const MAX_LOG_BYTES: usize = 800;
/// Containers whose log holds no prompt and no answer. The log of an engine may, so it is not shown.
const WITHOUT_PROMPTS: [&str; 2] = ["worker", "fetch"];
/// Containers that the operator adds. The user has added all others, or a service mesh has injected them.
const OF_OPERATOR: [&str; 3] = ["worker", "fetch", "engine"];
/// The reason in the status of a container that the kubelet restarts with a delay, because it has exited before.
const BACK_OFF: &str = "CrashLoopBackOff";

/// The end of the newest pod that has ended for good, for example by an eviction.
pub(in super::super) fn lost(observed: &Observed) -> Option<String> {
    let last = (observed.ended.iter()).max_by_key(|pod| pod.creation_timestamp())?;
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

/// The first container that cannot start, or that has failed.
pub(super) fn failure(pod: &Pod) -> Option<Why> {
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

/// Whether an init container is expected to exit. A sidecar, which is an init container too, runs as long as its pod.
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

/// The failure of a container that has exited, with the last lines of the log if it holds no prompt. `completes`: the
/// container is expected to exit. `backs_off`: it has exited several times.
fn ended(container: &ContainerStatus, completes: bool, backs_off: bool) -> Option<Why> {
    let terminated = |state: Option<&ContainerState>| state?.terminated.clone();
    let running = container
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some());
    let end = terminated(container.state.as_ref())
        .or_else(|| terminated(container.last_state.as_ref()).filter(|_| !running))?;
    let name = &container.name;
    let made = OF_OPERATOR.contains(&&**name);
    // The kubelet restarts a foreign container that exits successfully, if its restart policy says so.
    if end.exit_code == 0 && (completes || !made && !backs_off) {
        return None;
    }
    let words = end.message.as_deref().map(last_lines);
    let words = words.filter(|words| !words.is_empty() && WITHOUT_PROMPTS.contains(&&**name));
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

/// The end of a log in one line, because `kubectl get` shows one line. If the last lines have an `error:`, as those of
/// Inferyard do, only the text from there on is shown.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = (log.lines().map(str::trim))
        .filter(|line| !line.is_empty())
        .collect();
    let said = lines.iter().rposition(|line| line.starts_with("error:"));
    let line = lines[said.unwrap_or(0)..].join(" | ");
    match line.len().checked_sub(MAX_LOG_BYTES) {
        Some(too_many) => line[line.ceil_char_boundary(too_many)..].to_owned(),
        None => line,
    }
}
