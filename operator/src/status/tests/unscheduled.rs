//! The status of models with pods without a node.

use serde_json::json;

use super::*;
use crate::observe::UnboundVolume;

#[test]
fn no_node_fits_and_which_resource_is_short() {
    let message = "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 Insufficient \
                   nvidia.com/gpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful \
                   for scheduling.";
    let words = ["demo-worker-1: no node has enough nvidia.com/gpu: 0/3 nodes"];
    check(
        &observed(&unschedulable(message)),
        "NoNodeFits",
        Some("Scheduled"),
        &words,
    );
    let text = &said(&observed(&unschedulable(message)), 1);
    assert!(
        of(text, "Ready")
            .message
            .ends_with("2 Insufficient nvidia.com/gpu")
    );
    let message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    let words = ["no node fits: 0/1 nodes", "affinity/selector"];
    check(
        &observed(&unschedulable(message)),
        "NoNodeFits",
        Some("Scheduled"),
        &words,
    );
}

#[test]
fn a_missing_storage_class_is_named() {
    // As Kubernetes 1.34 says it.
    let message =
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
    let mut seen = observed(&unschedulable(message));
    seen.volume = Some(UnboundVolume::ClassMissing(Some("fast".to_owned())));
    check(
        &seen,
        "StorageClassMissing",
        Some("Scheduled"),
        &["\"fast\""],
    );
    seen.volume = Some(UnboundVolume::ClassMissing(None));
    let words = ["set spec.weights.storage.storageClassName"];
    check(&seen, "StorageClassMissing", Some("Scheduled"), &words);
    seen.volume = Some(UnboundVolume::Pending("demo-worker".to_owned()));
    check(&seen, "VolumePending", Some("Scheduled"), &["demo-worker"]);
    // As Kubernetes 1.34 says it.
    let gone = unschedulable(
        "0/1 nodes are available: persistentvolumeclaim \"models\" not found. not found",
    );
    check(
        &observed(&gone),
        "NotFound",
        Some("Scheduled"),
        &["there is no PersistentVolumeClaim \"models\""],
    );
}

/// As Kueue holds a pod back, and Kubernetes 1.34 says it.
#[test]
fn a_pod_that_a_queue_holds_back_is_not_one_that_fits_nowhere() {
    let pod = json!({
        "metadata": { "name": "demo-worker-1" },
        "spec": { "containers": [], "schedulingGates": [{ "name": "kueue.x-k8s.io/admission" }] },
        "status": {
            "phase": "Pending",
            "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }],
        },
    });
    let seen = Observed {
        pods: vec![Arc::new(serde_json::from_value(pod).unwrap())],
        ..observed(&json!({}))
    };
    let words = "waits until its scheduling gates are removed: kueue.x-k8s.io/admission";
    check(&seen, "SchedulingGated", Some("Scheduled"), &[words]);
    assert!(!is_failure("SchedulingGated"));
    assert_eq!(of(&said(&seen, 1), "Progressing").status, "True");
}

/// An autoscaler needs some minutes for a node.
#[test]
fn a_pod_that_finds_no_node_may_get_one_for_a_while() {
    let mut pod = unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.");
    pod["conditions"][0]["lastTransitionTime"] = json!("1970-01-01T00:00:00Z");
    let seen = observed(&pod);
    let spec = spec(1);
    let model = validated(&spec).unwrap();
    for (after, progresses) in [(0, "True"), (599, "True"), (600, "False")] {
        let now = Timestamp::from_second(after).unwrap();
        let status = status(&resource(&spec), Outcome::Applied(&model), &seen, now);
        let progressing = of(&status, "Progressing");
        assert_eq!(
            (progressing.status.as_str(), progressing.reason.as_str()),
            (progresses, "NoNodeFits"),
            "{after}"
        );
    }
}
