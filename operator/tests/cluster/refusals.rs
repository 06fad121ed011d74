//! The status of a model reports refusals and errors of the API server, also if the model was ready before.

use inferyard_crds::ModelDeployment;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{self, Cluster, model};

/// A model that wants no worker, and so is ready without a node.
fn stopped(name: &str) -> ModelDeployment {
    let source = json!({ "builtin": { "name": "demo" } });
    model(
        name,
        &json!({ "model": { "source": source }, "scaling": { "replicas": 0 } }),
    )
}

async fn change(models: &Api<ModelDeployment>, name: &str, spec: Value) {
    let patch = json!({ "spec": spec });
    let params = PatchParams::default();
    models
        .patch(name, &params, &Patch::Merge(&patch))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_pod_template_is_reported_by_its_path() {
    let Some(cluster) = Cluster::start("typo").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let params = PostParams::default();
    models.create(&params, &stopped("demo")).await.unwrap();
    let is_ready =
        |found: &ModelDeployment| support::reason(found, "Ready") == Some("ScaledToZero");
    cluster.until(&models, "demo", is_ready).await;
    let refused = |found: &ModelDeployment| support::reason(found, "Ready") == Some("Invalid");
    let typos = [
        (
            json!({ "spec": { "nodeSelectr": { "a": "b" } } }),
            "spec.podTemplate.spec.nodeSelectr: ",
        ),
        (
            json!({ "spec": { "containers": [{ "name": "worker", "env": [{ "name": "A", "valu": "b" }] }] } }),
            "spec.podTemplate.spec.containers[name=\"worker\"].env[name=\"A\"].valu: ",
        ),
        (
            json!({ "spec": { "containers": [{ "name": "workr", "tty": true }] } }),
            "spec.podTemplate.spec.containers: there is no container \"workr\"",
        ),
    ];
    for (template, told) in typos {
        change(&models, "demo", json!({ "podTemplate": null })).await;
        cluster.until(&models, "demo", is_ready).await;
        change(&models, "demo", json!({ "podTemplate": template })).await;
        let found = cluster.until(&models, "demo", refused).await;
        for type_ in ["Ready", "Accepted"] {
            let message = support::message(&found, type_).unwrap_or_default();
            assert!(message.starts_with(told), "{message}");
        }
        // The event follows the status.
        let is = |event: &Event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some("Invalid") && note.starts_with(told)
        };
        cluster.until_any(&cluster.api::<Event>(), is).await;
    }
    assert_eq!(cluster.events("demo", "Invalid").await.len(), 3);
    let made = cluster.events("demo", "Created").await;
    for object in ["ServiceAccount", "NetworkPolicy", "Deployment"] {
        let note = format!("created {object} demo-worker");
        assert_eq!(
            made.iter().filter(|made| **made == note).count(),
            1,
            "{made:?}"
        );
    }
    cluster.end().await;
}

/// A webhook without a server, for the Deployments of one namespace.
fn webhook(namespace: &str) -> ValidatingWebhookConfiguration {
    let object = json!({
        "metadata": { "name": namespace },
        "webhooks": [{
            "name": "nobody.inferyard.dev",
            "clientConfig": { "url": "https://127.0.0.1:1/" },
            "rules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["*"],
            }],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    });
    serde_json::from_value(object).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_down_is_reported_once() {
    let Some(cluster) = Cluster::start("webhook").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let params = PostParams::default();
    models.create(&params, &stopped("demo")).await.unwrap();
    let is_ready =
        |found: &ModelDeployment| support::reason(found, "Ready") == Some("ScaledToZero");
    cluster.until(&models, "demo", is_ready).await;
    let webhooks = Api::<ValidatingWebhookConfiguration>::all(cluster.client.clone());
    webhooks
        .create(&params, &webhook(cluster.namespace()))
        .await
        .unwrap();
    // The API server hears of the webhook a moment later: until then it takes the change.
    let deployments = cluster.api::<Deployment>();
    cluster.until_refused(&deployments, "demo-worker").await;
    change(&models, "demo", json!({ "rollout": { "maxSurge": 2 } })).await;
    let fails = |found: &ModelDeployment| support::reason(found, "Ready") == Some("ApplyFailed");
    let found = cluster.until(&models, "demo", fails).await;
    let message = support::message(&found, "Ready").unwrap();
    assert!(message.contains("nobody.inferyard.dev"), "{message}");
    assert_eq!(support::reason(&found, "Accepted"), Some("ApplyFailed"));
    let before = cluster.operator().reconciles().await;
    cluster.operator().until_reconciled(before + 1).await;
    assert_eq!(cluster.events("demo", "ApplyFailed").await.len(), 1);
    webhooks
        .delete(cluster.namespace(), &DeleteParams::default())
        .await
        .unwrap();
    cluster.until(&models, "demo", is_ready).await;
    cluster.end().await;
}
