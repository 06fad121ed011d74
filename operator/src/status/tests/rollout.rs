//! The status during rollouts and changes of scale.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::validate::Refusal;

/// A pod of this template.
fn pod(name: &str, template: &str, status: &Value) -> Arc<Pod> {
    let pod = json!({
        "metadata": { "name": name, "annotations": { "inferyard.dev/template": template } },
        "status": status,
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// A rollout of the template `new`.
fn rolling(deployment: Arc<DynamicObject>, pods: &[Arc<Pod>]) -> Observed {
    Observed {
        deployment: Some(deployment),
        template: Some("new".to_owned()),
        pods: pods.to_vec(),
        ..Observed::default()
    }
}

/// A Deployment whose controller has not seen the last change.
fn unseen(replicas: i32, updated: i32) -> Arc<DynamicObject> {
    let mut object = (*deployment(replicas, updated)).clone();
    object.metadata.generation = Some(3);
    Arc::new(object)
}

/// Type, status and reason of a condition, and its message.
fn check_all(status: &ModelDeploymentStatus, expected: &[(&str, &str, &str, &str)]) {
    for (type_, is, reason, message) in expected {
        let found = of(status, type_);
        assert_eq!(
            (
                found.status.as_str(),
                found.reason.as_str(),
                found.message.as_str()
            ),
            (*is, *reason, *message),
            "{type_}"
        );
    }
}

#[test]
fn while_old_workers_serve_a_rollout_is_progress() {
    let old = [
        pod("a", "old", &running("True")),
        pod("b", "old", &running("True")),
    ];
    let begun = rolling(unseen(2, 2), &old);
    let text = "0 of 2 workers run what is declared and answer; 2 old workers serve meanwhile";
    let status = said(&begun, 2);
    check_all(
        &status,
        &[
            ("Ready", "False", "RollingOut", text),
            ("Progressing", "True", "RollingOut", text),
            ("RolloutComplete", "False", "RollingOut", text),
            (
                "Available",
                "True",
                "EnoughWorkers",
                "2 workers answer, and at least 1 must",
            ),
        ],
    );
    assert_eq!((status.ready_replicas, status.updated_replicas), (2, 0));

    let mut pods = old.to_vec();
    pods.push(pod("c", "new", &running("False")));
    let loading = rolling(deployment(3, 1), &pods);
    let text = "c: the worker is starting; 2 old workers serve meanwhile";
    let status = said(&loading, 2);
    check_all(
        &status,
        &[
            ("Ready", "False", "Loading", text),
            ("Progressing", "True", "Loading", text),
            (
                "Available",
                "True",
                "EnoughWorkers",
                "2 workers answer, and at least 1 must",
            ),
        ],
    );
}

#[test]
fn a_rollout_ends_when_every_worker_is_new() {
    let pods = [
        pod("b", "old", &running("True")),
        pod("c", "new", &running("True")),
    ];
    let half = rolling(deployment(2, 1), &pods);
    let text = "1 of 2 workers run what is declared and answer; 1 old worker serves meanwhile";
    check_all(&said(&half, 2), &[("Ready", "False", "RollingOut", text)]);

    let pods = [
        pod("c", "new", &running("True")),
        pod("d", "new", &running("True")),
    ];
    let status = said(&rolling(deployment(2, 2), &pods), 2);
    check_all(
        &status,
        &[
            ("Ready", "True", "AllReady", "2 of 2 workers answer"),
            (
                "Progressing",
                "True",
                "Complete",
                "what is declared is carried out",
            ),
            (
                "RolloutComplete",
                "True",
                "Complete",
                "every worker runs what is declared",
            ),
        ],
    );
}

/// `kubectl rollout restart`: the template is the same for the operator.
#[test]
fn a_restart_is_a_rollout_too() {
    let pods = [
        pod("a", "new", &running("True")),
        pod("b", "new", &running("True")),
    ];
    let text = "2 of 2 workers run what is declared and answer; 1 worker from before the change still to be replaced";
    let status = said(&rolling(deployment(2, 1), &pods), 2);
    check_all(&status, &[("Ready", "False", "RollingOut", text)]);
}

#[test]
fn a_rollout_that_waits_for_an_accelerator_says_what_cures_it() {
    let pending = unschedulable(
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/1 nodes \
         are available: 1 No preemption victims found for incoming pod.",
    );
    let pods = [pod("a", "old", &running("True")), pod("b", "new", &pending)];
    let text = "the rollout waits for nvidia.com/gpu: b: no node has enough nvidia.com/gpu: 0/1 nodes are available: \
                1 Insufficient nvidia.com/gpu; 1 old worker serves meanwhile; with spec.rollout.maxSurge: 0 an old \
                worker ends first and makes room";
    let status = said(&rolling(deployment(2, 1), &pods), 1);
    let rollout = "0 of 1 workers run what is declared and answer; 1 old worker serves meanwhile";
    check_all(
        &status,
        &[
            ("Ready", "False", "RolloutWaits", text),
            ("Progressing", "False", "RolloutWaits", text),
            ("RolloutComplete", "False", "RollingOut", rollout),
            (
                "Available",
                "True",
                "EnoughWorkers",
                "1 worker answers, and at least 1 must",
            ),
        ],
    );
    // More workers, and no rollout.
    let pods = [pod("a", "new", &running("True")), pod("b", "new", &pending)];
    let status = said(&rolling(deployment(2, 2), &pods), 2);
    assert_eq!(of(&status, "Ready").reason, "NoNodeFits");
    let message = &of(&status, "Ready").message;
    assert!(
        message.ends_with("; 1 of 2 workers answer meanwhile"),
        "{message}"
    );
}

/// An old worker that ends lets no node fit that did not fit before.
#[test]
fn a_rollout_without_a_fitting_node_gets_no_advice_to_make_room() {
    let pending = unschedulable(
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    );
    let pods = [pod("a", "old", &running("True")), pod("b", "new", &pending)];
    let status = said(&rolling(deployment(2, 1), &pods), 1);
    let ready = of(&status, "Ready");
    assert_eq!(ready.reason, "NoNodeFits");
    assert!(!ready.message.contains("maxSurge"), "{}", ready.message);
    assert!(
        ready.message.ends_with("; 1 old worker serves meanwhile"),
        "{}",
        ready.message
    );
}

#[test]
fn workers_that_no_name_leads_to_are_not_available() {
    let pods = [pod("a", "old", &running("True"))];
    let mut seen = rolling(deployment(1, 1), &pods);
    seen.template = None;
    let refusal = Refusal {
        reason: Reason::NameTaken,
        message: "the name is another's".to_owned(),
    };
    let now = Timestamp::UNIX_EPOCH;
    let status = status(
        &resource(&spec(1)),
        Outcome::Unreachable(&refusal),
        &seen,
        now,
    );
    let nowhere = "no name is left that leads to its workers";
    check_all(
        &status,
        &[
            ("Ready", "False", "NameTaken", "the name is another's"),
            ("Available", "False", "NameTaken", nowhere),
        ],
    );
}

#[test]
fn what_is_refused_does_not_end_the_workers_before_it() {
    let pods = [pod("a", "old", &running("True"))];
    let mut seen = rolling(deployment(1, 1), &pods);
    seen.template = None;
    let refusal = Refusal {
        reason: Reason::Invalid,
        message: "spec.podTemplate: no".to_owned(),
    };
    let resource = resource(&spec(1));
    let now = Timestamp::UNIX_EPOCH;
    let status = status(&resource, Outcome::Refused(&refusal), &seen, now);
    check_all(
        &status,
        &[
            (
                "Ready",
                "False",
                "Invalid",
                "spec.podTemplate: no; 1 old worker serves meanwhile",
            ),
            ("Progressing", "False", "Invalid", "spec.podTemplate: no"),
            ("Accepted", "False", "Invalid", "spec.podTemplate: no"),
            (
                "Available",
                "True",
                "EnoughWorkers",
                "1 worker answers, and at least 1 must",
            ),
        ],
    );
    assert_eq!(status.updated_replicas, 0);
    assert!(
        status
            .conditions
            .iter()
            .all(|said| said.observed_generation == Some(3))
    );
}

#[test]
fn what_the_api_server_fails_to_take_is_not_refused() {
    let model = validated(&spec(1)).unwrap();
    let pods = [pod("a", "old", &running("True"))];
    let seen = rolling(deployment(1, 1), &pods);
    let resource = resource(&spec(1));
    let now = Timestamp::UNIX_EPOCH;
    let status = status(
        &resource,
        Outcome::Failing(&model, "a webhook is down"),
        &seen,
        now,
    );
    check_all(
        &status,
        &[
            (
                "Ready",
                "False",
                "ApplyFailed",
                "a webhook is down; 1 old worker serves meanwhile",
            ),
            ("Progressing", "False", "ApplyFailed", "a webhook is down"),
            ("Accepted", "Unknown", "ApplyFailed", "a webhook is down"),
            (
                "Available",
                "True",
                "EnoughWorkers",
                "1 worker answers, and at least 1 must",
            ),
        ],
    );
    assert_eq!((status.ready_replicas, status.updated_replicas), (1, 0));
}
