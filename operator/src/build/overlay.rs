//! Lays the user's pod template over the operator's own.

use serde_json::{Map, Value};

/// Merges `over` into `base`: null removes a field, lists of named things are merged by name, everything
/// else replaces. A container of this name is patched wherever it stands: a sidecar is an init container.
pub(super) fn lay_over(base: &mut Value, over: &Value) {
    let mut over = over.clone();
    move_to_init_containers(base, &mut over);
    merge(base, &over);
}

fn move_to_init_containers(base: &Value, over: &mut Value) {
    let init = base["spec"]["initContainers"].as_array();
    let names: Vec<Value> = (init.into_iter().flatten())
        .map(|container| container["name"].clone())
        .collect();
    // Not by index, which would put a null there where nothing was: that removes.
    let Some(Value::Array(containers)) = over.pointer_mut("/spec/containers") else {
        return;
    };
    let (before, beside): (Vec<_>, Vec<_>) =
        (containers.drain(..)).partition(|container| names.contains(&container["name"]));
    *containers = beside;
    if before.is_empty() {
        return;
    }
    match over.pointer_mut("/spec/initContainers") {
        Some(Value::Array(own)) => own.extend(before),
        _ => over["spec"]["initContainers"] = Value::Array(before),
    }
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge_field(base, name, value);
            }
        }
        (base, over) => *base = without_nulls(over),
    }
}

fn merge_field(base: &mut Map<String, Value>, name: &str, over: &Value) {
    if over.is_null() {
        base.remove(name);
        return;
    }
    let Some(own) = base.get_mut(name) else {
        base.insert(name.to_owned(), without_nulls(over));
        return;
    };
    match (key(name), own, over) {
        (Some(key), Value::Array(own), Value::Array(over)) => {
            for item in over {
                let same = own.iter_mut().find(|own| own[key] == item[key]);
                match same {
                    // These have one source of several: the new one replaces the old one whole.
                    Some(same) if matches!(name, "env" | "volumes") => *same = without_nulls(item),
                    Some(same) => merge(same, item),
                    None => own.push(without_nulls(item)),
                }
            }
        }
        (_, own, over) => merge(own, over),
    }
}

/// By what the items of a list are known, as Kubernetes has it.
pub(crate) fn key(list: &str) -> Option<&'static str> {
    Some(match list {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => "name",
        "volumeMounts" => "mountPath",
        "ports" => "containerPort",
        "topologySpreadConstraints" => "topologyKey",
        "ownerReferences" => "uid",
        _ => return None,
    })
}

/// A null says that something should not be there; where nothing was, nothing is to be said.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            let kept = kept.map(|(name, value)| (name.clone(), without_nulls(value)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(over: &Value, expected: &Value) {
        let mut base = json!({
            "metadata": { "labels": { "a": "1" } },
            "spec": {
                "initContainers": [{ "name": "engine", "image": "e" }],
                "containers": [{
                    "name": "worker",
                    "args": ["x", "y"],
                    "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                }],
                "volumes": [{ "name": "tmp", "emptyDir": {} }],
                "priorityClassName": "high",
            },
        });
        lay_over(&mut base, over);
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
}
