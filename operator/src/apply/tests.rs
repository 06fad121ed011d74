//! Which objects are patched, and which are not.

use kube::api::DynamicObject;

use super::*;

fn key() -> (String, Kind, String) {
    ("n".to_owned(), Kind::Deployment, "demo-worker".to_owned())
}

fn live(object: &Value, version: &str) -> DynamicObject {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version);
    serde_json::from_value(object).unwrap()
}

fn desired() -> Value {
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
    let object = stamped(desired(), "a/first");
    NoopPatchCache::default().is_current(&key(), &live(stored, "1"), &object)
}

#[test]
fn fields_that_others_add_are_left_alone() {
    let mut stored = stamped(desired(), "a/first");
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
fn a_field_that_another_client_changed_is_applied_again() {
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
        let mut stored = stamped(desired(), "a/first");
        *stored.pointer_mut(pointer).unwrap() = value;
        assert!(!is_current(&stored), "{pointer}");
    }
}

/// A release that takes over a model writes its name into the objects that it applies.
#[test]
fn an_object_that_another_release_applied_is_applied_again() {
    assert!(is_current(&stamped(desired(), "a/first")));
    assert!(!is_current(&stamped(desired(), "b/second")));
}

/// A comparison with the live object does not show it: only the hash does.
#[test]
fn the_removal_of_a_field_is_applied() {
    let mut before = desired();
    before["spec"]["template"]["spec"]["nodeSelector"] = json!({ "zone": "a" });
    assert!(!is_current(&stamped(before, "a/first")));
}

#[test]
fn a_value_that_the_api_server_normalizes_is_sent_once() {
    let object = stamped(desired(), "a/first");
    let mut stored = object.clone();
    stored["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("1");
    let cache = NoopPatchCache::default();
    let before = live(&stored, "7");
    assert!(!cache.is_current(&key(), &before, &object));
    // The patch changed nothing: the version is the same.
    cache.record(key(), Some(&before), &before, &object);
    assert!(cache.is_current(&key(), &before, &object));
    // Other drift is seen nevertheless.
    stored["spec"]["replicas"] = json!(9);
    assert!(!cache.is_current(&key(), &live(&stored, "8"), &object));
    cache.forget("n", "demo-worker");
    assert!(!cache.is_current(&key(), &before, &object));
}
