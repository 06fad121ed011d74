//! The status of models with exited containers, of the operator and of others.

use serde_json::{Value, json};

use super::*;

/// A pod with an init container that may be a sidecar, in this state; its worker does not run yet.
fn with_init(name: &str, sidecar: bool, state: &Value, last: &Value, restarts: u32) -> Observed {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "demo-worker-1", "namespace": "models" },
        "spec": { "initContainers": [{ "name": name }], "containers": [{ "name": "worker" }] },
        "status": {
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "True" }],
            "initContainerStatuses": [status_of(name, state, last, restarts)],
        },
    });
    if sidecar {
        pod["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
    }
    of_pod(pod)
}

fn status_of(name: &str, state: &Value, last: &Value, restarts: u32) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": restarts,
        "state": state, "lastState": last,
    })
}

fn of_pod(pod: Value) -> Observed {
    Observed {
        deployment: Some(deployment(1, 1)),
        pods: vec![Arc::new(serde_json::from_value(pod).unwrap())],
        ..Observed::default()
    }
}

fn end(code: i32) -> Value {
    let reason = if code == 0 { "Completed" } else { "Error" };
    json!({ "terminated": { "exitCode": code, "reason": reason } })
}

fn back_off() -> Value {
    json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } })
}

/// What a service mesh, a vault or the user has put before the worker, and the operator's own `fetch`.
#[test]
fn an_init_container_that_is_done_is_no_failure() {
    for name in [
        "istio-init",
        "linkerd-init",
        "vault-agent-init",
        "prepare",
        "fetch",
    ] {
        let seen = with_init(name, false, &end(0), &json!({}), 0);
        check(&seen, "Starting", Some("WeightsAvailable"), &["starting"]);
        // It failed before it was done.
        let seen = with_init(name, false, &end(0), &end(1), 2);
        check(&seen, "Starting", None, &[]);
        // The sandbox of the pod was recreated, and the container waits for its start.
        let waits = json!({ "waiting": { "reason": "PodInitializing" } });
        let seen = with_init(name, false, &waits, &end(0), 1);
        check(&seen, "Starting", None, &[]);
    }
    let mut seen = with_init("istio-init", false, &end(0), &json!({}), 0);
    let mut pod = serde_json::to_value(&*seen.pods[0]).unwrap();
    pod["status"]["containerStatuses"] = json!([status_of(
        "worker",
        &json!({ "running": {} }),
        &json!({}),
        0
    )]);
    seen.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
    check(&seen, "Loading", None, &["starting"]);
}

#[test]
fn an_init_container_of_others_that_fails_is_no_engine() {
    let words = ["istio-init ended with exit code 1 (Error), 1 restart"];
    let seen = with_init("istio-init", false, &end(1), &json!({}), 1);
    check(&seen, "ContainerFailed", None, &words);
    let seen = with_init("istio-init", false, &back_off(), &end(1), 1);
    check(&seen, "ContainerFailed", None, &words);
}

#[test]
fn a_sidecar_that_ends_well_is_a_failure_once_it_keeps_ending() {
    let seen = with_init("istio-proxy", true, &end(0), &json!({}), 0);
    check(&seen, "Starting", None, &[]);
    let seen = with_init("istio-proxy", true, &back_off(), &end(0), 3);
    let words = "istio-proxy ended with exit code 0 (Completed), 3 restarts; it has to run as long as its pod";
    check(&seen, "ContainerFailed", None, &[words]);
    let seen = with_init("istio-proxy", true, &json!({ "running": {} }), &end(0), 3);
    check(&seen, "Starting", None, &[]);
}

/// The engine is a sidecar too, and may not end at all.
#[test]
fn an_engine_that_ends_has_failed() {
    for state in [&end(0), &back_off()] {
        let seen = with_init("engine", true, state, &end(0), 0);
        check(
            &seen,
            "EngineFailed",
            None,
            &["engine ended with exit code 0"],
        );
    }
}

#[test]
fn a_container_beside_the_worker_may_end() {
    let beside = |state: &Value, last: &Value| {
        of_pod(json!({
            "metadata": { "name": "demo-worker-1" },
            "spec": { "containers": [{ "name": "worker" }, { "name": "warm-up" }] },
            "status": {
                "conditions": [{ "type": "PodScheduled", "status": "True" }],
                "containerStatuses": [
                    status_of("warm-up", state, last, 0),
                    status_of("worker", &json!({ "running": {} }), &json!({}), 0),
                ],
            },
        }))
    };
    check(&beside(&end(0), &json!({})), "Loading", None, &["starting"]);
    let words = ["warm-up ended with exit code 0", "has to run"];
    check(
        &beside(&back_off(), &end(0)),
        "ContainerFailed",
        None,
        &words,
    );
    check(
        &beside(&end(137), &json!({})),
        "ContainerFailed",
        None,
        &["exit code 137"],
    );
}

/// Kubernetes keeps a pod that was evicted; another one is in its place.
#[test]
fn an_ended_pod_is_reported_only_while_workers_are_missing() {
    let evicted = json!({
        "metadata": { "name": "demo-worker-0", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "status": { "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." },
    });
    let mut seen = observed(&running("True"));
    seen.ended = vec![Arc::new(serde_json::from_value(evicted).unwrap())];
    let all = said(&seen, 1);
    assert_eq!(of(&all, "Ready").reason, "AllReady");
    assert_eq!(all.replicas, 1);
    seen.pods.clear();
    let words =
        ["0 of 1 workers answer; demo-worker-0 has ended: Evicted: The node was low on resource"];
    check(&seen, "Creating", None, &words);
}
