//! Why a pod has no node, from what the scheduler says.

use std::sync::LazyLock;

use inferyard_crds::Reason;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use regex::Regex;

use super::Why;
use crate::observe::Volume;

/// What is said of a pod that has no node.
pub(super) fn unscheduled(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|found| found.type_ == "PodScheduled" && found.status == "False")
}

/// Why a pod has no node.
pub(super) fn why(pod: &Pod, condition: &PodCondition, volume: Option<&Volume>) -> Why {
    if condition.reason.as_deref() == Some("SchedulingGated") {
        return (Reason::SchedulingGated, gated(pod));
    }
    let said = condition.message.as_deref().unwrap_or_default();
    let claim = said.contains("PersistentVolumeClaim") || said.contains("persistentvolumeclaim");
    match volume {
        // The scheduler's `… unbound immediate PersistentVolumeClaims. not found` is another matter.
        _ if said.contains("persistentvolumeclaim \"") && said.contains("not found") => {
            (Reason::NotFound, no_claim(said))
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
            let message = format!(
                "the volume of PersistentVolumeClaim {claim} is not there yet: {}",
                first_sentence(said)
            );
            (Reason::VolumePending, message)
        }
        None if claim => (Reason::VolumePending, first_sentence(said).to_owned()),
        None => {
            let why = short(said).map_or_else(
                || "no node fits".to_owned(),
                |short| format!("no node has enough {short}"),
            );
            let message = format!("{why}: {}", first_sentence(said));
            (Reason::NoNodeFits, message)
        }
    }
}

/// Which gates somebody has to open, such as a queue for jobs.
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
fn no_claim(said: &str) -> String {
    let name = said
        .split_once("persistentvolumeclaim \"")
        .map(|(_, rest)| rest);
    let name = name
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    format!("there is no PersistentVolumeClaim {name:?}")
}

/// Which nodes there are and why they do not do. What the scheduler says after it, of preemption and of claims, is
/// about what it tried.
fn first_sentence(said: &str) -> &str {
    let end = said.find(". ").unwrap_or(said.len());
    said[..end].trim().trim_end_matches(['.', ','])
}

/// The resources that are short.
pub(super) fn short(said: &str) -> Option<String> {
    static SHORT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"Insufficient ([^,.\s]+(?:\.[^,.\s]+)*)").expect("the pattern should be valid")
    });
    let found = SHORT.captures_iter(said).filter_map(|found| found.get(1));
    let mut short: Vec<_> = found.map(|name| name.as_str()).collect();
    short.sort_unstable();
    short.dedup();
    Some(short.join(", ")).filter(|short| !short.is_empty())
}
