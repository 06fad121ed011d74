//! Declarations, and the objects that are built from them.

use inferyard_crds::WORKER_GRPC_PORT;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde_json::{Value, json};

use super::*;
use crate::kind::Kind;
use crate::names::TEMPLATE_ANNOTATION;
use crate::validate::tests::validated;

fn desired(spec: &Value) -> Desired {
    build(&validated(spec).unwrap())
}

/// The objects of a model as YAML, as they are sent to the API server.
fn built(spec: &Value) -> String {
    let children = desired(spec).children;
    let texts = (children.iter()).map(|child| serde_saphyr::to_string(&child.to_json()).unwrap());
    texts.collect::<Vec<_>>().join("---\n")
}

/// The pod template of the Deployment.
fn template(desired: Desired) -> PodTemplateSpec {
    let mut objects = desired.children.into_iter().map(|child| child.object);
    let found = objects.find_map(|object| match object {
        Object::Deployment(deployment) => Some(deployment.spec.unwrap().template),
        _ => None,
    });
    found.unwrap()
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

/// A tenant may give pods the label of a router: the namespace decides too.
#[test]
fn a_worker_lets_in_routers_and_operators_of_their_own_namespaces_only() {
    let spec = json!({ "model": { "source": { "builtin": { "name": "demo" } } } });
    let mut model = validated(&spec).unwrap();
    for namespaces in [vec!["inferyard"], vec!["inferyard", "edge"]] {
        model.router_namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let desired = build(&model);
        let mut children = desired.children.iter();
        let policy = children.find(|child| child.kind() == Kind::NetworkPolicy);
        let spec = &policy.unwrap().to_json()["spec"];
        let calls = &spec["ingress"][0];
        assert_eq!(calls["ports"][0]["port"], WORKER_GRPC_PORT);
        let peers = calls["from"].as_array().unwrap();
        assert_eq!(peers.len(), 2);
        for peer in peers {
            let rule = json!({
                "key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces,
            });
            assert_eq!(
                peer["namespaceSelector"],
                json!({ "matchExpressions": [rule] })
            );
        }
    }
}

#[test]
fn the_quickstart() {
    let spec = json!({ "model": { "source": { "builtin": { "name": "demo" } } } });
    insta::assert_snapshot!(built(&spec));
}

#[test]
fn vllm_on_two_gpus_with_a_volume() {
    let spec = json!({
        "model": {
            "name": "qwen3-8b",
            "source": { "huggingFace": {
                "repo": "Qwen/Qwen3-8B", "revision": "abc", "include": ["*.safetensors", "*.json"],
                "endpoint": "https://mirror.example", "tokenSecret": { "name": "hf", "key": "token" },
            } },
        },
        "engine": { "vllm": {
            "image": "vllm/vllm-openai:v0.32.0",
            "args": ["--max-model-len", "8192"],
            "env": { "VLLM_LOGGING_LEVEL": "WARNING" },
        } },
        "accelerators": { "class": "nvidia", "count": 2 },
        "nodeSelector": { "zone": "a" },
        "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" }],
        "weights": { "storage": {
            "size": "40Gi", "storageClassName": "nfs", "accessMode": "ReadWriteMany",
        } },
        "scaling": { "replicas": 3 },
        "rollout": { "maxSurge": "25%", "drainTimeout": "5m" },
        "availability": { "minAvailable": "50%", "priorityClassName": "high" },
        "podTemplate": { "spec": {
            "containers": [
                { "name": "worker", "resources": { "requests": { "cpu": "1" } } },
                { "name": "engine", "resources": { "requests": { "memory": "32Gi" } } },
            ],
            "runtimeClassName": "nvidia",
        } },
    });
    insta::assert_snapshot!(built(&spec));
}

#[test]
fn sglang_on_a_claim() {
    let spec = json!({
        "model": { "source": { "pvc": { "claimName": "models", "path": "llama" } } },
        "engine": { "sglang": { "image": "lmsysorg/sglang:v0.5", "args": ["--tp", "4"] } },
        "accelerators": { "resourceName": "amd.com/gpu", "count": 4 },
    });
    insta::assert_snapshot!(built(&spec));
}

#[test]
fn any_server_on_an_image_volume() {
    let spec = json!({
        "model": { "source": { "image": { "reference": "r/weights:1", "pullPolicy": "IfNotPresent" } } },
        "engine": { "openai": {
            "image": "ghcr.io/ggml-org/llama.cpp:server",
            "args": ["-m", "/weights/model.gguf", "--port", "8000"],
            "servedModelName": "llama",
        } },
    });
    insta::assert_snapshot!(built(&spec));
}

#[test]
fn the_embedded_engine_on_a_download() {
    let digest = "0".repeat(64);
    let spec = json!({
        "model": { "source": { "http": {
            "url": "https://example.com/m.gguf", "sha256": digest,
            "secret": { "name": "s", "key": "token" },
        } } },
        "engine": { "embedded": { "contextLength": 4096, "threads": 4 } },
        "weights": { "storage": { "size": "8Gi" } },
    });
    insta::assert_snapshot!(built(&spec));
}

#[test]
fn the_same_declaration_is_built_the_same() {
    let spec = json!({
        "model": { "source": { "builtin": { "name": "demo" } } },
        "scaling": { "replicas": 2 },
    });
    assert_eq!(built(&spec), built(&spec));
}

#[test]
fn only_containers_without_prompts_have_a_termination_message() {
    for (engine, own) in [
        (json!({ "vllm": { "image": "i" } }), vec!["fetch", "worker"]),
        (
            json!({ "sglang": { "image": "i" } }),
            vec!["fetch", "worker"],
        ),
        (
            json!({ "openai": { "image": "i" } }),
            vec!["fetch", "worker"],
        ),
        (json!({ "embedded": {} }), vec!["fetch", "worker"]),
    ] {
        let spec = json!({
            "model": { "source": { "huggingFace": { "repo": "a/b" } } },
            "engine": engine,
        });
        let pod = template(desired(&spec)).spec.unwrap();
        let falls_back = |container: &&k8s_openapi::api::core::v1::Container| {
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        };
        let mut leave: Vec<_> = containers(&pod)
            .filter(falls_back)
            .map(|container| container.name.as_str())
            .collect();
        leave.sort_unstable();
        assert_eq!(leave, own);
    }
}

/// The pod template of a model with a chat template.
fn pod(engine: &Value, chat_template: &Value) -> Value {
    let spec = json!({
        "model": { "source": { "huggingFace": { "repo": "a/b" } } },
        "engine": engine,
        "chatTemplate": chat_template,
    });
    serde_json::to_value(template(desired(&spec))).unwrap()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let mut items = list.as_array().into_iter().flatten();
    items
        .find(|item| item["name"] == name)
        .unwrap_or(&Value::Null)
}

/// Whether a container has the mount, the variable and the argument of the chat template, or none of them.
#[track_caller]
fn has_chat_template(container: &Value, flag: &str, told: bool) {
    let mount = named(&container["volumeMounts"], "chat-template");
    let mounts = mount["mountPath"] == "/chat-template" && mount["readOnly"] == true;
    let from = &named(&container["env"], "INFERYARD_CHAT_TEMPLATE")["valueFrom"];
    let expect = json!({ "configMapKeyRef": { "name": "chat", "key": "gemma.jinja" } });
    let args = container["args"].as_array().map_or(&[][..], Vec::as_slice);
    let file = "/chat-template/template.jinja";
    let named = args
        .windows(2)
        .any(|pair| pair == [json!(flag), json!(file)]);
    assert_eq!([mounts, *from == expect, named], [told; 3], "{container}");
}

#[test]
fn a_chat_template_reaches_the_container_that_renders() {
    let file = "/chat-template/template.jinja";
    let llama = json!(["-m", "/weights/m.gguf", "--chat-template-file", file]);
    for (engine, reads, flag) in [
        (json!({ "embedded": {} }), "worker", "--chat-template"),
        (
            json!({ "vllm": { "image": "i" } }),
            "engine",
            "--chat-template",
        ),
        (
            json!({ "sglang": { "image": "i" } }),
            "engine",
            "--chat-template",
        ),
        (
            json!({ "openai": { "image": "i", "args": llama } }),
            "engine",
            "--chat-template-file",
        ),
    ] {
        let pod = pod(
            &engine,
            &json!({ "configMap": { "name": "chat", "key": "gemma.jinja" } }),
        );
        let spec = &pod["spec"];
        for (list, name) in [("containers", "worker"), ("initContainers", "engine")] {
            if !spec[list].is_null() {
                has_chat_template(named(&spec[list], name), flag, name == reads);
            }
        }
        let expect = json!({ "name": "chat-template", "configMap": {
            "name": "chat", "optional": true, "items": [{ "key": "gemma.jinja", "path": "template.jinja" }],
        } });
        assert_eq!(*named(&spec["volumes"], "chat-template"), expect);
        let text = &pod["metadata"]["annotations"]["inferyard.dev/chat-template"];
        assert_eq!(*text, Value::Null);
    }
}

/// By this digest the status tells new workers from old ones.
#[test]
fn the_digest_of_a_template_is_that_of_what_pods_are_made_of() {
    let digest = |fields: &Value| {
        let mut spec = json!({ "model": { "source": { "builtin": { "name": "demo" } } } });
        spec.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let desired = desired(&spec);
        let expected = desired.template.clone();
        let annotations = template(desired).metadata.unwrap().annotations.unwrap();
        assert_eq!(annotations[TEMPLATE_ANNOTATION], expected);
        expected
    };
    let plain = digest(&json!({}));
    assert_eq!(digest(&json!({ "scaling": { "replicas": 5 } })), plain);
    assert_eq!(digest(&json!({ "rollout": { "maxSurge": 2 } })), plain);
    assert_ne!(digest(&json!({ "nodeSelector": { "a": "b" } })), plain);
    let overlaid =
        json!({ "podTemplate": { "metadata": { "annotations": { TEMPLATE_ANNOTATION: "x" } } } });
    assert_ne!(digest(&overlaid), "x");
}

#[test]
fn another_inline_chat_template_is_another_pod_template() {
    let inline = |text: &str| pod(&json!({ "embedded": {} }), &json!({ "inline": text }));
    let (one, other) = (inline("{{ messages }}"), inline("{{ messages }} "));
    assert_ne!(one, other);
    let text = &one["metadata"]["annotations"]["inferyard.dev/chat-template"];
    assert_eq!(*text, "{{ messages }}");
    let expect = json!({ "name": "chat-template", "downwardAPI": { "items": [{
        "path": "template.jinja",
        "fieldRef": { "fieldPath": "metadata.annotations['inferyard.dev/chat-template']" },
    }] } });
    assert_eq!(*named(&one["spec"]["volumes"], "chat-template"), expect);
    let worker = named(&one["spec"]["containers"], "worker");
    assert_eq!(
        *named(&worker["env"], "INFERYARD_CHAT_TEMPLATE"),
        Value::Null
    );
}
