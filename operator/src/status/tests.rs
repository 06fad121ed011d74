//! Pods as clusters show them, and the resulting status.

mod available;
mod containers;
mod rollout;
mod unscheduled;

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_proto::worker::v1::{FetchProgress, WorkerState};
use serde_json::{Value, json};

use super::*;
use crate::validate::tests::{resource, validated};

fn spec(replicas: i32) -> Value {
    json!({
        "model": { "source": { "builtin": { "name": "demo" } } },
        "scaling": { "replicas": replicas },
    })
}

/// What is observed of one wanted worker whose pod has this status.
fn observed(pod_status: &Value) -> Observed {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "demo-worker-1", "namespace": "models" },
        "status": pod_status,
    });
    Observed {
        deployment: Some(deployment(1, 1)),
        pods: vec![Arc::new(serde_json::from_value(pod).unwrap())],
        ..Observed::default()
    }
}

fn deployment(replicas: i32, updated: i32) -> Arc<DynamicObject> {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "demo-worker", "generation": 2 },
        "status": {
            "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
        },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn said(observed: &Observed, replicas: i32) -> ModelDeploymentStatus {
    let spec = spec(replicas);
    let model = validated(&spec).unwrap();
    status(
        &resource(&spec),
        Outcome::Applied(&model),
        observed,
        Timestamp::UNIX_EPOCH,
    )
}

fn of<'a>(status: &'a ModelDeploymentStatus, type_: &str) -> &'a Condition {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|condition| condition.type_ == type_)
        .unwrap()
}

/// `Ready` is false for this reason, with these words, and so is the condition of its step.
fn check(observed: &Observed, reason: &str, step: Option<&str>, words: &[&str]) {
    let status = said(observed, 1);
    for type_ in std::iter::once("Ready").chain(step) {
        let condition = of(&status, type_);
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("False", reason)
        );
        for word in words {
            assert!(condition.message.contains(word), "{}", condition.message);
        }
    }
}

fn unschedulable(message: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        }],
    })
}

fn waiting(list: &str, name: &str, reason: &str, message: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "True" }],
        list: [{
            "name": name, "image": "inferyard:typo", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": message } },
        }],
    })
}

#[test]
fn an_image_that_cannot_be_pulled_is_named() {
    let message = "Back-off pulling image \"inferyard:typo\"";
    for reason in [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
    ] {
        let seen = observed(&waiting("containerStatuses", "worker", reason, message));
        check(&seen, "ImagePull", None, &["inferyard:typo", "worker"]);
    }
}

#[test]
fn a_missing_secret_is_named() {
    let seen = waiting(
        "initContainerStatuses",
        "fetch",
        "CreateContainerConfigError",
        "secret \"hf\" not found",
    );
    check(
        &observed(&seen),
        "ContainerConfig",
        None,
        &["secret \"hf\" not found", "fetch"],
    );
}

#[test]
fn a_missing_chat_template_is_reported_for_the_container_that_reads_it() {
    for (list, name, message) in [
        (
            "containerStatuses",
            "worker",
            "configmap \"chats\" not found",
        ),
        (
            "initContainerStatuses",
            "engine",
            "couldn't find key base.jinja in ConfigMap models/chats",
        ),
    ] {
        let seen = waiting(list, name, "CreateContainerConfigError", message);
        let words = format!("{name} cannot be started: {message}");
        check(&observed(&seen), "ContainerConfig", None, &[&words]);
    }
}

fn crashed(list: &str, name: &str, words: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "True" }],
        list: [{
            "name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 3,
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } },
            "lastState": { "terminated": { "exitCode": 1, "reason": "Error", "message": words } },
        }],
    })
}

#[test]
fn the_last_log_lines_of_an_ended_container_are_shown() {
    let words = "error: SHA-256 of model.gguf is 00, not ff";
    let seen = observed(&crashed("initContainerStatuses", "fetch", words));
    check(
        &seen,
        "FetchFailed",
        Some("WeightsAvailable"),
        &[words, "3 restarts", "exit code 1"],
    );
    let logged = format!("{{\"level\":\"ERROR\"}}\nlistening\n{words}\n");
    let seen = observed(&crashed("containerStatuses", "worker", &logged));
    check(
        &seen,
        "EngineFailed",
        None,
        &[&format!("(Error), 3 restarts: {words}")],
    );
    let long = format!("{} the end", "é".repeat(2000));
    let seen = observed(&crashed("containerStatuses", "worker", &long));
    check(&seen, "EngineFailed", None, &["worker ended", "the end"]);
    assert!(of(&said(&seen, 1), "Ready").message.len() < 1000);
}

#[test]
fn the_log_of_an_engine_is_shown_nowhere() {
    for (list, name, reason) in [
        ("initContainerStatuses", "engine", "EngineFailed"),
        ("containerStatuses", "engine", "EngineFailed"),
        ("initContainerStatuses", "istio-init", "ContainerFailed"),
    ] {
        let log = "ERROR prompt: 'my SECRET' | error: my SECRET";
        let seen = observed(&crashed(list, name, log));
        let words = format!("{name} ended with exit code 1 (Error), 3 restarts");
        check(&seen, reason, None, &[&words]);
        let status = serde_json::to_string(&said(&seen, 1)).unwrap();
        assert!(!status.contains("SECRET"), "{status}");
    }
}

#[test]
fn an_engine_that_fails_requests_is_reported() {
    let mut seen = observed(&running("False"));
    let note = "the engine at http://127.0.0.1:8000 failed 3 requests in a row: the engine answered with status 500";
    let report = WorkerState {
        phase: inferyard_proto::worker::v1::worker_state::Phase::Unhealthy.into(),
        load_progress: 1.0,
        note: note.to_owned(),
        ..WorkerState::default()
    };
    seen.reports = BTreeMap::from([("demo-worker-1".to_owned(), report)]);
    check(&seen, "EngineFailed", None, &[note]);
}

#[test]
fn progress_is_reported_in_numbers() {
    let mut seen = observed(&json!({
        "conditions": [{ "type": "PodScheduled", "status": "True" }],
        "initContainerStatuses": [{
            "name": "fetch", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": { "running": {} },
        }],
    }));
    check(
        &seen,
        "Fetching",
        Some("WeightsAvailable"),
        &["the weights are being fetched"],
    );
    let report = WorkerState {
        load_progress: 0.25,
        fetch: Some(FetchProgress {
            bytes_done: 1_250_000_000,
            bytes_total: 5_000_000_000,
            bytes_per_second: 50_000_000,
        }),
        ..WorkerState::default()
    };
    seen.reports = BTreeMap::from([("demo-worker-1".to_owned(), report)]);
    let words = ["fetched 1.2 GB of 5.0 GB at 50.0 MB/s, 1m15s left"];
    check(&seen, "Fetching", Some("WeightsAvailable"), &words);
    let loading = said(&seen, 1).loading.unwrap();
    assert_eq!(
        (loading.percent, loading.remaining.as_deref()),
        (25, Some("1m15s"))
    );
}

fn running(ready: &str) -> Value {
    json!({
        "phase": "Running",
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": ready },
        ],
        "containerStatuses": [{
            "name": "worker", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": { "running": {} },
        }],
    })
}

#[test]
fn a_worker_that_loads_says_why_it_does_not_serve() {
    let mut seen = observed(&running("False"));
    check(&seen, "Loading", None, &["the worker is starting"]);
    let mut report = WorkerState {
        load_progress: 0.5,
        ..WorkerState::default()
    };
    seen.reports
        .insert("demo-worker-1".to_owned(), report.clone());
    check(&seen, "Loading", None, &["loading the model: 50 %"]);
    report.load_progress = 1.0;
    seen.reports
        .insert("demo-worker-1".to_owned(), report.clone());
    check(
        &seen,
        "Loading",
        None,
        &["the model is loaded and about to answer"],
    );
    report.note = "the engine does not answer: connection refused".to_owned();
    seen.reports.insert("demo-worker-1".to_owned(), report);
    check(&seen, "Loading", None, &["connection refused"]);
}

#[test]
fn all_ready() {
    let status = said(&observed(&running("True")), 1);
    for type_ in ConditionType::ALL {
        assert_eq!(of(&status, type_.as_str()).status, "True", "{type_:?}");
    }
    assert_eq!(of(&status, "Ready").reason, "AllReady");
    assert_eq!(status.workers.as_deref(), Some("1/1"));
    assert_eq!(
        (
            status.replicas,
            status.ready_replicas,
            status.observed_generation
        ),
        (1, 1, 3)
    );
}

#[test]
fn nothing_wanted_is_well() {
    let seen = Observed {
        deployment: Some(deployment(0, 0)),
        ..Observed::default()
    };
    let status = said(&seen, 0);
    assert_eq!(of(&status, "Ready").reason, "ScaledToZero");
    assert_eq!(of(&status, "Ready").status, "True");
}

#[test]
fn a_quota_is_reported() {
    let mut seen = observed(&running("True"));
    let mut deployment = (*deployment(1, 1)).clone();
    deployment.data["status"]["conditions"] = json!([{
        "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus",
    }]);
    seen.deployment = Some(Arc::new(deployment));
    check(&seen, "Refused", None, &["exceeded quota: gpus"]);
}

#[test]
fn a_condition_keeps_its_date_while_its_status_stays() {
    let spec = spec(1);
    let mut resource = resource(&spec);
    let model = validated(&spec).unwrap();
    let later = Timestamp::from_second(1000).unwrap();
    resource.status = Some(said(&observed(&running("False")), 1));
    let again = status(
        &resource,
        Outcome::Applied(&model),
        &observed(&running("False")),
        later,
    );
    assert_eq!(resource.status, Some(again));
    let ready = status(
        &resource,
        Outcome::Applied(&model),
        &observed(&running("True")),
        later,
    );
    assert_eq!(of(&ready, "Ready").last_transition_time.0, later);
    assert_eq!(
        of(&ready, "Accepted").last_transition_time.0,
        Timestamp::UNIX_EPOCH
    );
}
