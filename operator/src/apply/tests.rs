//! When something is applied, and when not.

use kube::api::DynamicObject;

use super::*;

fn child(object: Value) -> Child {
    Child {
        kind: Kind::Deployment,
        name: "demo-worker".to_owned(),
        object,
    }
}

fn live(object: &Value, version: &str) -> DynamicObject {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version);
    serde_json::from_value(object).unwrap()
}

fn wanted() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "demo-worker", "labels": { "a": "1" } },
        "spec": { "replicas": 1, "template": { "spec": {
            "containers": [{
                "name": "worker",
                "args": ["worker", "--model", "demo"],
                "env": [{ "name": "A", "value": "1" }],
                "resources": { "limits": { "cpu": "1000m" } },
            }],
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
        } } },
    })
}

fn is_current(stored: &Value) -> bool {
    let child = child(wanted());
    let desired = stamped(&child.object, "a/first");
    Settled::default().is_current("n", &child, &live(stored, "1"), &desired)
}

#[test]
fn what_others_add_is_theirs() {
    let mut stored = stamped(&wanted(), "a/first");
    stored["metadata"]["labels"]["b"] = json!("2");
    stored["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("1");
    stored["spec"]["revisionHistoryLimit"] = json!(10);
    let spec = &mut stored["spec"]["template"]["spec"];
    spec["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    let injected = json!({ "name": "proxy", "image": "p" });
    spec["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, injected);
    assert!(is_current(&stored));
}

#[test]
fn what_somebody_changed_is_applied_again() {
    let pointers = [
        ("/metadata/labels/a", json!("2")),
        ("/spec/replicas", json!(5)),
        ("/spec/template/spec/containers/0/args/2", json!("other")),
        ("/spec/template/spec/containers/0/env/0/value", json!("2")),
        ("/spec/template/spec/containers/0/name", json!("renamed")),
        ("/spec/template/spec/containers/0/args", json!(["worker"])),
        ("/metadata/labels", json!({})),
    ];
    for (pointer, value) in pointers {
        let mut stored = stamped(&wanted(), "a/first");
        *stored.pointer_mut(pointer).unwrap() = value;
        assert!(!is_current(&stored), "{pointer}");
    }
}

/// Another release that takes a model over signs what it applies.
#[test]
fn what_another_release_applied_is_applied_again() {
    assert!(is_current(&stamped(&wanted(), "a/first")));
    assert!(!is_current(&stamped(&wanted(), "b/second")));
}

/// A field that is applied no longer leaves the live object as it is: only the hash tells.
#[test]
fn what_is_no_longer_wanted_is_applied() {
    let mut before = wanted();
    before["spec"]["template"]["spec"]["nodeSelector"] = json!({ "zone": "a" });
    assert!(!is_current(&stamped(&before, "a/first")));
}

#[test]
fn what_the_api_server_rewrites_is_sent_once() {
    let child = child(wanted());
    let desired = stamped(&child.object, "a/first");
    let mut stored = desired.clone();
    stored["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("1");
    let settled = Settled::default();
    let before = live(&stored, "7");
    assert!(!settled.is_current("n", &child, &before, &desired));
    // The patch changed nothing: the version is the same.
    settled.note("n", &child, Some(&before), &before, &desired);
    assert!(settled.is_current("n", &child, &before, &desired));
    // Other drift is seen nevertheless.
    stored["spec"]["replicas"] = json!(9);
    assert!(!settled.is_current("n", &child, &live(&stored, "8"), &desired));
    settled.forget("n", "demo-worker");
    assert!(!settled.is_current("n", &child, &before, &desired));
}
