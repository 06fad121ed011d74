//! Declarations that the API server accepts, and whether they are valid.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferyard_crds::Platform;
use serde_json::json;

use super::*;

pub(crate) fn config() -> Config {
    Config {
        namespaces: Vec::new(),
        platform: Platform::new(vec!["inferyard".to_owned()]),
        router_namespaces: vec!["inferyard".to_owned()],
        image: "inferyard:1".to_owned(),
        classes: Config::usual_classes(),
        scraper_namespaces: Vec::new(),
        release: "n/first".to_owned(),
        lease_name: "first-operator".to_owned(),
        lease_namespace: "inferyard".to_owned(),
        identity: "me".to_owned(),
        kubeconfig: None,
        metrics: None,
    }
}

pub(crate) fn resource(spec: &Value) -> ModelDeployment {
    let resource = json!({
        "apiVersion": inferyard_crds::API_VERSION,
        "kind": "ModelDeployment",
        "metadata": { "name": "demo", "namespace": "models", "uid": "u-1", "generation": 3 },
        "spec": spec,
    });
    serde_json::from_value(resource).unwrap()
}

pub(crate) fn dereferenced(resource: ModelDeployment) -> Dereferenced {
    Dereferenced {
        resource: Arc::new(resource),
        name_conflict: None,
        live: BTreeMap::new(),
        pods: Vec::new(),
        ended: Vec::new(),
    }
}

pub(crate) fn validated(spec: &Value) -> Result<Validated, Refusal> {
    validate(&dereferenced(resource(spec)), &config())
}

fn with(fields: &Value) -> Value {
    let mut spec = json!({ "model": { "source": { "builtin": { "name": "demo" } } } });
    let own = spec.as_object_mut().unwrap();
    own.extend(fields.as_object().unwrap().clone());
    spec
}

#[track_caller]
fn check(spec: &Value, reason: Reason, said: &str) {
    let refusal = validated(spec).unwrap_err();
    assert_eq!(refusal.reason, reason, "{spec}");
    assert!(refusal.message.contains(said), "{}", refusal.message);
}

#[test]
fn what_cannot_be_carried_out_says_what_to_write() {
    let file = json!({ "model": { "source": { "file": { "path": "model.gguf" } } } });
    check(
        &file,
        Reason::Invalid,
        "in a cluster, use huggingFace, http, pvc or image",
    );
    let class = with(&json!({ "accelerators": { "class": "h100", "count": 1 } }));
    check(
        &class,
        Reason::NotFound,
        "there is no class \"h100\"; this operator knows amd, nvidia",
    );
    let overlays = [
        (
            json!({ "spec": { "terminationGracePeriodSeconds": 5 } }),
            "set spec.rollout.drainTimeout",
        ),
        (
            json!({ "spec": { "restartPolicy": "Never" } }),
            "spec.restartPolicy is the operator's",
        ),
        (
            json!({ "status": {} }),
            "expected metadata and spec, found status",
        ),
        (
            json!({ "metadata": { "labels": { "app.kubernetes.io/name": "x" } } }),
            "the label app.kubernetes.io/name is the operator's",
        ),
        (
            json!({ "spec": { "containers": [{ "args": "x" }] } }),
            "spec.podTemplate.spec.containers[0].args: invalid type: string",
        ),
        (
            json!({ "spec": { "tolerations": "x" } }),
            "spec.podTemplate.spec.tolerations: invalid type: string",
        ),
        (
            json!({ "spec": { "containers": [{ "name": "workr", "env": [] }] } }),
            "spec.podTemplate.spec.containers: there is no container \"workr\" to change; the operator's are worker, \
             and one of your own needs an image",
        ),
        (
            json!({ "spec": { "containers": [{ "name": "engine", "tty": true }] } }),
            "there is no container \"engine\" to change",
        ),
        (
            json!({ "spec": { "initContainers": [{ "name": "worker" }] } }),
            "spec.podTemplate.spec.initContainers: there is no container \"worker\" to change; the operator's are \
             none here",
        ),
    ];
    for (overlay, said) in overlays {
        check(
            &with(&json!({ "podTemplate": overlay })),
            Reason::Invalid,
            said,
        );
    }
}

#[test]
fn containers_that_exist_are_changed_and_others_are_added() {
    let template = json!({ "spec": {
        "containers": [
            { "name": "worker", "tty": true }, { "name": "engine", "tty": true }, { "name": "fetch", "tty": true },
            { "name": "mine", "image": "i" },
        ],
        "initContainers": [{ "name": "engine", "tty": true }, { "name": "prepare", "image": "i" }],
    } });
    let spec = json!({
        "model": { "source": { "huggingFace": { "repo": "a/b" } } },
        "engine": { "vllm": { "image": "v" } },
        "podTemplate": template,
    });
    assert_eq!(validated(&spec).unwrap().overlay, Some(template));
}

#[test]
fn a_chat_template_that_does_not_reach_its_server_is_refused() {
    let template = json!({ "inline": "{{ messages }}" });
    let engines = [
        (
            json!({ "openai": { "image": "i", "args": ["-m", "/weights/m.gguf"] } }),
            "for llama.cpp as --chat-template-file /chat-template/template.jinja",
        ),
        (
            json!({ "vllm": { "image": "i", "args": ["--chat-template=x"] } }),
            "spec.engine.vllm.args has a --chat-template too: leave one of them out",
        ),
        (
            json!({ "sglang": { "image": "i", "args": ["--chat-template", "x"] } }),
            "spec.engine.sglang.args has a --chat-template too",
        ),
    ];
    for (engine, said) in engines {
        let spec = json!({
            "model": { "source": { "huggingFace": { "repo": "a/b" } } },
            "engine": engine, "chatTemplate": template,
        });
        check(&spec, Reason::Invalid, said);
    }
}

#[test]
fn the_older_model_keeps_its_name() {
    let mut found = dereferenced(resource(&with(&json!({}))));
    found.name_conflict = Some(NameConflict {
        name: "demo".to_owned(),
        owner: "first".to_owned(),
        all: true,
    });
    let refusal = validate(&found, &config()).unwrap_err();
    assert_eq!(refusal.reason, Reason::NameTaken);
    assert!(refusal.message.contains("the older ModelDeployment first"));
}

#[test]
fn a_budget_exists_only_where_it_can_be_honoured() {
    let check = |replicas: i32, availability: Value, expected: Option<Budget>, noted: bool| {
        let fields = json!({
            "scaling": { "replicas": replicas },
            "availability": availability,
        });
        let model = validated(&with(&fields)).unwrap();
        assert_eq!(model.budget, expected, "{fields}");
        assert_eq!(model.note.is_some(), noted, "{fields}");
    };
    let int = IntOrString::Int;
    let share = |text: &str| IntOrString::String(text.to_owned());
    check(1, json!({}), None, false);
    check(2, json!({}), Some(Budget::MaxUnavailable(int(1))), false);
    check(
        3,
        json!({ "minAvailable": 2 }),
        Some(Budget::MinAvailable(int(2))),
        false,
    );
    check(3, json!({ "minAvailable": 3 }), None, true);
    check(3, json!({ "minAvailable": "90%" }), None, true);
    check(
        10,
        json!({ "minAvailable": "90%" }),
        Some(Budget::MinAvailable(share("90%"))),
        false,
    );
    check(2, json!({ "maxUnavailable": 0 }), None, true);
    check(2, json!({ "maxUnavailable": "0%" }), None, true);
}

#[test]
fn a_rollout_can_always_begin() {
    let check = |fields: Value, surge: i32, gap: i32| {
        let mut spec =
            json!({ "model": { "source": { "http": { "url": "https://a.b/c.gguf" } } } });
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let model = validated(&spec).unwrap();
        let expected = (IntOrString::Int(surge), IntOrString::Int(gap));
        assert_eq!(
            (model.max_surge, model.max_unavailable),
            expected,
            "{fields}"
        );
    };
    let storage =
        |mode: &str| json!({ "weights": { "storage": { "size": "1Gi", "accessMode": mode } } });
    check(json!({}), 1, 0);
    check(json!({ "rollout": { "maxSurge": 0 } }), 0, 1);
    check(storage("ReadWriteOnce"), 0, 1);
    check(storage("ReadWriteMany"), 1, 0);
    // All that there are may be taken.
    check(json!({ "accelerators": { "class": "nvidia" } }), 0, 1);
    check(
        json!({ "accelerators": { "class": "nvidia" }, "rollout": { "maxSurge": 1 } }),
        1,
        0,
    );
}

#[test]
fn a_rollout_of_the_only_worker_is_announced() {
    let noted = |fields: &Value| validated(&with(fields)).unwrap().note.is_some();
    let class = json!({ "class": "nvidia" });
    assert!(noted(&json!({ "accelerators": class })));
    assert!(!noted(&json!({})));
    assert!(!noted(
        &json!({ "accelerators": class, "scaling": { "replicas": 2 } })
    ));
    for field in ["maxSurge", "maxUnavailable"] {
        assert!(
            !noted(&json!({ "accelerators": class, "rollout": { field: 1 } })),
            "{field}"
        );
    }
}

#[test]
fn times_are_read() {
    let seconds = |text| time(text).unwrap().as_secs();
    assert_eq!(seconds("90s"), 90);
    assert_eq!(seconds("1h2m3s"), 3723);
    assert!(time("5d").is_err());
}
