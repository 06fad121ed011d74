//! The Deployment of a model's workers.

use serde_json::{Value, json};

use super::container::{accelerators, confined};
use super::{
    METRICS_PORT, USER, digest, engine, labels, overlay, selector, template as chat, weights,
};
use crate::names::{GRPC_PORT, MODEL_ANNOTATION, TEMPLATE_ANNOTATION, child_name};
use crate::validate::{EngineKind, Validated};

/// What a worker has beyond its drain timeout for its own end.
const GRACE: u64 = 15;

pub(super) fn spec(model: &Validated, template: &Value) -> Value {
    json!({
        "replicas": model.replicas,
        "revisionHistoryLimit": 3,
        // Loading may take long; what is wrong is said by the pods, not by a deadline.
        "progressDeadlineSeconds": 86_400,
        "selector": { "matchLabels": selector(model) },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": model.max_surge, "maxUnavailable": model.max_unavailable },
        },
        "template": template,
    })
}

/// The template of the pods, with its digest.
pub(super) fn template(model: &Validated) -> (Value, String) {
    let mut template = own_template(model);
    if let Some(over) = &model.overlay {
        overlay::lay_over(&mut template, over);
    }
    template["metadata"]["annotations"][MODEL_ANNOTATION] = json!(model.model);
    let digest = digest(&template);
    template["metadata"]["annotations"][TEMPLATE_ANNOTATION] = json!(digest);
    (template, digest)
}

fn own_template(model: &Validated) -> Value {
    let mut before: Vec<Value> = Vec::new();
    before.extend(weights::fetch(model));
    before.extend(engine::sidecar(model));
    let mut spec = json!({
        "serviceAccountName": child_name(&model.name),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": model.drain.as_secs() + GRACE,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        // One node's end should not take all workers, where there is a choice.
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": selector(model) },
        }],
        "containers": [worker(model)],
        "volumes": volumes(model),
    });
    if !before.is_empty() {
        spec["initContainers"] = Value::Array(before);
    }
    if !model.node_selector.is_empty() {
        spec["nodeSelector"] = json!(model.node_selector);
    }
    if !model.tolerations.is_empty() {
        spec["tolerations"] = json!(model.tolerations);
    }
    if let Some(class) = &model.priority_class {
        spec["priorityClassName"] = json!(class);
    }
    let mut metadata = json!({ "labels": labels(model) });
    if let Some(annotations) = chat::annotations(model) {
        metadata["annotations"] = annotations;
    }
    json!({ "metadata": metadata, "spec": spec })
}

fn worker(model: &Validated) -> Value {
    let mut args = vec![
        "worker".to_owned(),
        "--model".to_owned(),
        model.model.clone(),
        "--listen".to_owned(),
        format!("0.0.0.0:{GRPC_PORT}"),
        "--metrics-listen".to_owned(),
        format!("0.0.0.0:{METRICS_PORT}"),
        "--log-format".to_owned(),
        "json".to_owned(),
        "--drain-timeout".to_owned(),
        format!("{}s", model.drain.as_secs()),
    ];
    args.extend(engine::worker_args(model));
    let mut mounts = vec![json!({ "name": "tmp", "mountPath": "/tmp" })];
    let embedded = matches!(model.engine, EngineKind::Embedded(_));
    let mut env = vec![json!({ "name": "TMPDIR", "value": "/tmp" })];
    if embedded {
        mounts.extend(weights::mount(model));
        mounts.extend(chat::mount(model));
        env.extend(chat::variable(model));
    }
    let probe = |service: &str, failures: u32| {
        json!({
            "grpc": { "port": GRPC_PORT, "service": service },
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": "worker",
        "image": model.image,
        "args": args,
        "env": env,
        "ports": [
            { "name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP" },
            { "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" },
        ],
        // It serves when the model is loaded, which may take an hour.
        "startupProbe": probe("", 1800),
        "readinessProbe": probe("", 2),
        "livenessProbe": probe("liveness", 15),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": confined(),
        "volumeMounts": mounts,
    });
    if embedded && let Some(accelerators) = accelerators(model) {
        container["resources"] = accelerators;
    }
    container
}

fn volumes(model: &Validated) -> Vec<Value> {
    let mut volumes = vec![json!({ "name": "tmp", "emptyDir": {} })];
    volumes.extend(weights::volume(model));
    volumes.extend(engine::volumes(model));
    volumes.extend(chat::volume(model));
    volumes
}
