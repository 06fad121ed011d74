//! Containers that cannot be started or have ended, and pods that were lost.

use inferyard_crds::Reason;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use super::Why;
use crate::observe::Observed;

/// The most of a container's last words that is shown, in bytes.
const LAST_WORDS: usize = 800;
/// Containers whose log holds no prompt and no answer. An engine's log may: its last words are not shown.
const OWN: [&str; 2] = ["worker", "fetch"];
/// Containers that the operator makes. All others are the user's, or injected, by a service mesh for instance.
const MADE: [&str; 3] = ["worker", "fetch", "engine"];
/// What the kubelet says of a container that it does not start at once, because it has ended before.
const BACK_OFF: &str = "CrashLoopBackOff";

/// What became of the pod that was lost last, for instance to an eviction.
pub(in super::super) fn lost(observed: &Observed) -> Option<String> {
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

/// A container that cannot be started, or that ended.
pub(super) fn stuck(pod: &Pod) -> Option<Why> {
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
