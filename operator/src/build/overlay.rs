//! Lays the user's pod template over the operator's own.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value, json};

use crate::list_keys;

/// Lists whose items have one source of several, so that two items of one key cannot be merged field by field.
const UNIONS: [&str; 2] = ["env", "volumes"];

/// Merges `overlay` into `template`. The types of the Kubernetes API merge themselves: maps by their keys, lists by the
/// keys of their items, everything else replaces. `prepare` does before what they cannot do.
///
/// A container of the overlay changes the container of its name, even if that one is an init container: users list the
/// engine among the containers, and it is a sidecar.
pub(super) fn lay_over(mut template: PodTemplateSpec, overlay: &Value) -> PodTemplateSpec {
    let mut overlay = overlay.clone();
    let sidecars = take_sidecars(&template, &mut overlay);
    let sidecars =
        (!sidecars.is_empty()).then(|| json!({ "spec": { "initContainers": sidecars } }));
    for mut part in std::iter::once(overlay).chain(sidecars) {
        let mut base = serde_json::to_value(template).expect("a pod template should be JSON");
        prepare(&mut base, &mut part);
        template = typed(base);
        template.merge_from(typed(part));
    }
    template
}

fn typed(template: Value) -> PodTemplateSpec {
    serde_json::from_value(template).expect("validation should refuse what is no pod template")
}

/// Takes the containers out of the overlay that are init containers of the template.
fn take_sidecars(template: &PodTemplateSpec, overlay: &mut Value) -> Vec<Value> {
    let spec = template.spec.iter();
    let own = spec.flat_map(|spec| spec.init_containers.iter().flatten());
    let names: Vec<&str> = own.map(|container| container.name.as_str()).collect();
    // Not by index: indexing a `Value` inserts a null, and a null removes.
    let Some(Value::Array(containers)) = overlay.pointer_mut("/spec/containers") else {
        return Vec::new();
    };
    let is_sidecar = |container: &Value| {
        let name = container["name"].as_str();
        name.is_some_and(|name| names.contains(&name))
    };
    let (sidecars, rest) = containers.drain(..).partition(is_sidecar);
    *containers = rest;
    sidecars
}

/// Does what `DeepMerge` cannot do:
///
/// - A null removes the field from `base`. To the types a null is an absent field, which changes nothing.
/// - A field that the overlay leaves out keeps the value of `base`. Required fields have no `Option` in the types, so
///   an absent one is read as an empty text or 0, which would replace the value.
/// - An item of a union list loses its source in `base`, so that it gets exactly one: that of the overlay.
fn prepare(base: &mut Value, overlay: &mut Value) {
    let (Value::Object(base), Value::Object(overlay)) = (base, &mut *overlay) else {
        return remove_nulls(overlay);
    };
    overlay.retain(|name, value| {
        if value.is_null() {
            base.remove(name);
        }
        !value.is_null()
    });
    for (name, value) in overlay.iter_mut() {
        match base.get_mut(name) {
            Some(own) => prepare_field(name, own, value),
            None => remove_nulls(value),
        }
    }
    keep_scalars(base, overlay);
}

fn prepare_field(name: &str, own: &mut Value, value: &mut Value) {
    let (Some(key), Value::Array(own), Value::Array(items)) =
        (list_keys::key(name), &mut *own, &mut *value)
    else {
        return prepare(own, value);
    };
    for item in items {
        match own.iter_mut().find(|own| own[key] == item[key]) {
            Some(own) if UNIONS.contains(&name) => {
                if let Value::Object(own) = own {
                    own.retain(|field, _| field == key);
                }
                remove_nulls(item);
            }
            Some(own) => prepare(own, item),
            None => remove_nulls(item),
        }
    }
}

fn keep_scalars(base: &Map<String, Value>, overlay: &mut Map<String, Value>) {
    for (name, own) in base {
        if !own.is_object() && !own.is_array() && !overlay.contains_key(name) {
            overlay.insert(name.clone(), own.clone());
        }
    }
}

/// Removes nulls where the operator's template has nothing that they could remove.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(over: &Value, expected: &Value) {
        let base = json!({
            "metadata": { "labels": { "a": "1" } },
            "spec": {
                "initContainers": [{ "name": "engine", "image": "e" }],
                "containers": [{
                    "name": "worker",
                    "args": ["x", "y"],
                    "livenessProbe": { "grpc": { "port": 1, "service": "a" }, "periodSeconds": 2 },
                    "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp", "readOnly": true }],
                    "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                }],
                "volumes": [{ "name": "tmp", "emptyDir": {} }],
                "priorityClassName": "high",
            },
        });
        let base = lay_over(serde_json::from_value(base).unwrap(), over);
        let base = serde_json::to_value(base).unwrap();
        for (pointer, value) in expected.as_object().unwrap() {
            let found = base.pointer(pointer).unwrap_or(&Value::Null);
            assert_eq!(found, value, "{pointer} in {base}");
        }
    }

    #[test]
    fn fields_are_merged_replaced_and_removed() {
        let over = json!({
            "metadata": { "labels": { "b": "2" }, "annotations": { "c": "3" } },
            "spec": { "priorityClassName": null, "hostname": null, "runtimeClassName": "nvidia" },
        });
        let expected = json!({
            "/metadata/labels": { "a": "1", "b": "2" },
            "/metadata/annotations/c": "3",
            "/spec/priorityClassName": null,
            "/spec/hostname": null,
            "/spec/runtimeClassName": "nvidia",
            "/spec/containers/0/name": "worker",
        });
        check(&over, &expected);
    }

    #[test]
    fn named_things_are_merged_by_name() {
        let source = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
        let over = json!({ "spec": {
            "containers": [
                {
                    "name": "worker",
                    "args": ["z"],
                    "env": [{ "name": "B", "valueFrom": source }, { "name": "C", "value": "3" }],
                },
                { "name": "extra", "image": "i" },
            ],
            "volumes": [{ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } }],
        } });
        let expected = json!({
            "/spec/containers/0/args": ["z"],
            "/spec/containers/0/env": [
                { "name": "A", "value": "1" },
                { "name": "B", "valueFrom": source },
                { "name": "C", "value": "3" },
            ],
            "/spec/containers/1": { "name": "extra", "image": "i" },
            "/spec/volumes": [{ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } }],
        });
        check(&over, &expected);
    }

    #[test]
    fn a_sidecar_is_found_among_containers() {
        let over = json!({ "spec": { "containers": [{ "name": "engine", "tty": true }] } });
        let expected = json!({
            "/spec/initContainers/0": { "name": "engine", "image": "e", "tty": true },
            "/spec/containers/1": null,
        });
        check(&over, &expected);
    }

    /// Required fields and nulls, which the types do not merge by themselves.
    #[test]
    fn what_is_left_out_stays_and_null_removes_inside_of_lists() {
        let over = json!({ "spec": { "containers": [{
            "name": "worker",
            "livenessProbe": { "grpc": { "service": "b" }, "periodSeconds": null },
            "volumeMounts": [{ "mountPath": "/tmp", "readOnly": null, "subPath": "x" }],
        }] } });
        let expected = json!({
            "/spec/containers/0/livenessProbe": { "grpc": { "port": 1, "service": "b" } },
            "/spec/containers/0/volumeMounts": [{ "name": "tmp", "mountPath": "/tmp", "subPath": "x" }],
        });
        check(&over, &expected);
    }

    #[test]
    fn a_sidecar_may_be_changed_in_both_lists() {
        let over = json!({ "spec": {
            "initContainers": [{ "name": "engine", "image": "other" }],
            "containers": [{ "name": "engine", "tty": true }],
        } });
        let expected = json!({
            "/spec/initContainers": [{ "name": "engine", "image": "other", "tty": true }],
        });
        check(&over, &expected);
    }
}
