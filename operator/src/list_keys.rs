//! The lists of Kubernetes objects whose items have a key, as the Kubernetes API declares them.

/// The field that identifies an item of a list with this name. None: a patch replaces the list as a whole.
pub(crate) fn key(list: &str) -> Option<&'static str> {
    Some(match list {
        "claims" | "containers" | "env" | "imagePullSecrets" | "initContainers"
        | "resourceClaims" | "schedulingGates" | "volumes" => "name",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "ports" => "containerPort",
        "topologySpreadConstraints" => "topologyKey",
        "hostAliases" => "ip",
        "ownerReferences" => "uid",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::DeepMerge;
    use k8s_openapi::api::core::v1::PodTemplateSpec;
    use serde_json::{Value, json};

    use super::*;

    /// The length of a list of a pod, after a list of one item is merged with another one.
    fn merged(list: &str, in_container: bool, first: &Value, second: &Value) -> usize {
        let pod = |item: &Value| -> PodTemplateSpec {
            let spec = if in_container {
                json!({ "containers": [{ "name": "c", list: [item] }] })
            } else {
                json!({ list: [item] })
            };
            serde_json::from_value(json!({ "spec": spec })).unwrap()
        };
        let mut merged = pod(first);
        merged.merge_from(pod(second));
        let merged = serde_json::to_value(merged).unwrap();
        let pointer = if in_container {
            "/spec/containers/0/"
        } else {
            "/spec/"
        };
        let merged = merged.pointer(&format!("{pointer}{list}")).unwrap();
        merged.as_array().unwrap().len()
    }

    #[test]
    fn the_keys_are_those_by_which_the_types_merge() {
        let (text, number) = (|text: &str| json!(text), |number: u32| json!(number));
        for (list, in_container, first, second) in [
            ("containers", false, text("a"), text("b")),
            ("initContainers", false, text("a"), text("b")),
            ("volumes", false, text("a"), text("b")),
            ("imagePullSecrets", false, text("a"), text("b")),
            ("resourceClaims", false, text("a"), text("b")),
            ("schedulingGates", false, text("a"), text("b")),
            ("topologySpreadConstraints", false, text("a"), text("b")),
            ("hostAliases", false, text("a"), text("b")),
            ("env", true, text("a"), text("b")),
            ("volumeMounts", true, text("a"), text("b")),
            ("volumeDevices", true, text("a"), text("b")),
            ("ports", true, number(1), number(2)),
        ] {
            let key = key(list).unwrap();
            let (first, second) = (json!({ key: first }), json!({ key: second }));
            assert_eq!(merged(list, in_container, &first, &first), 1, "{list}");
            assert_eq!(merged(list, in_container, &first, &second), 2, "{list}");
        }
        let (first, second) = (json!({ "key": "a" }), json!({ "key": "b" }));
        assert_eq!(
            (
                key("tolerations"),
                merged("tolerations", false, &first, &second)
            ),
            (None, 1)
        );
    }
}
