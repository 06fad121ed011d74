//! Why a pod has no node, from the message of the scheduler.

use std::sync::LazyLock;

use inferyard_crds::Reason;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use regex::Regex;

use super::Why;
use crate::observe::UnboundVolume;

/// The condition of a pod without a node.
pub(super) fn unscheduled(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|found| found.type_ == "PodScheduled" && found.status == "False")
}

/// Why a pod has no node.
pub(super) fn why(pod: &Pod, condition: &PodCondition, volume: Option<&UnboundVolume>) -> Why {
    if condition.reason.as_deref() == Some("SchedulingGated") {
        return (Reason::SchedulingGated, gated(pod));
    }
    let message = condition.message.as_deref().unwrap_or_default();
    let claim =
        message.contains("PersistentVolumeClaim") || message.contains("persistentvolumeclaim");
    match volume {
        // `… unbound immediate PersistentVolumeClaims. not found` has another meaning.
        _ if message.contains("persistentvolumeclaim \"") && message.contains("not found") => {
            (Reason::NotFound, no_claim(message))
        }
        Some(UnboundVolume::ClassMissing(Some(class))) => {
            let message =
                format!("its volume waits for the storage class {class:?}, which does not exist");
            (Reason::StorageClassMissing, message)
        }
        Some(UnboundVolume::ClassMissing(None)) => {
            let message = "its volume waits for a default storage class, which the cluster does not have: \
                           set spec.weights.storage.storageClassName";
            (Reason::StorageClassMissing, message.to_owned())
        }
        Some(UnboundVolume::Pending(claim)) => {
            let message = format!(
                "the volume of PersistentVolumeClaim {claim} is not there yet: {}",
                first_sentence(message)
            );
            (Reason::VolumePending, message)
        }
        None if claim => (Reason::VolumePending, first_sentence(message).to_owned()),
        None => {
            let why = missing_resources(message).map_or_else(
                || "no node fits".to_owned(),
                |short| format!("no node has enough {short}"),
            );
            let message = format!("{why}: {}", first_sentence(message));
            (Reason::NoNodeFits, message)
        }
    }
}

/// The scheduling gates of a pod. A job queue, for example, removes them later.
fn gated(pod: &Pod) -> String {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref());
    let gates: Vec<_> = (gates.into_iter().flatten())
        .map(|gate| gate.name.as_str())
        .collect();
    format!(
        "waits until its scheduling gates are removed: {}",
        gates.join(", ")
    )
}

/// The claim that the scheduler does not find.
fn no_claim(message: &str) -> String {
    let name = message
        .split_once("persistentvolumeclaim \"")
        .map(|(_, rest)| rest);
    let name = name
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    format!("there is no PersistentVolumeClaim {name:?}")
}

/// The first sentence, which lists the nodes and why they do not fit. The later sentences, about preemption and claims,
/// describe attempts of the scheduler.
fn first_sentence(message: &str) -> &str {
    let end = message.find(". ").unwrap_or(message.len());
    message[..end].trim().trim_end_matches(['.', ','])
}

/// The resources that no node has enough of.
pub(super) fn missing_resources(message: &str) -> Option<String> {
    static SHORT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"Insufficient ([^,.\s]+(?:\.[^,.\s]+)*)").expect("the pattern should be valid")
    });
    let found = SHORT
        .captures_iter(message)
        .filter_map(|found| found.get(1));
    let mut short: Vec<_> = found.map(|name| name.as_str()).collect();
    short.sort_unstable();
    short.dedup();
    Some(short.join(", ")).filter(|short| !short.is_empty())
}
