//! The operator before a real API server, named by `INFERYARD_TEST_KUBECONFIG`; without one these tests say
//! loudly that they were skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod refusals;
mod rollouts;
mod support;
mod tenants;

use inferyard_crds::{ApiKey, ModelDeployment, Plan};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use support::{Cluster, Operator, model};

/// The builtin model, whose image does not exist here.
fn quickstart(name: &str) -> ModelDeployment {
    model(
        name,
        &json!({ "model": { "source": { "builtin": { "name": "demo" } } } }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_out_says_so() {
    let Some(cluster) = Cluster::start("refused").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let builtin = json!({ "source": { "builtin": { "name": "demo" } } });
    let refused = json!({
        "model": builtin,
        "podTemplate": { "spec": { "containers": [{ "name": "worker", "imagePullPolicy": "Sometimes" }] } },
    });
    let class = json!({ "model": builtin, "accelerators": { "class": "tpu" } });
    let file = json!({ "model": { "source": { "file": { "path": "m.gguf" } } } });
    let table = [
        ("refused", refused, "Refused", "imagePullPolicy"),
        ("class", class, "NotFound", "no class \"tpu\""),
        ("file", file, "Invalid", "absolute path"),
    ];
    for (name, spec, reason, told) in &table {
        let params = PostParams::default();
        models.create(&params, &model(name, spec)).await.unwrap();
        let is = |found: &ModelDeployment| support::reason(found, "Ready") == Some(reason);
        let found = cluster.until(&models, name, is).await;
        let message = support::message(&found, "Ready").unwrap_or_default();
        assert!(message.contains(told), "{name}: {message}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_model_gets_the_name_when_the_first_one_releases_it() {
    let Some(cluster) = Cluster::start("names").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let source = json!({ "builtin": { "name": "demo" } });
    let named = |own: &str| {
        let spec = json!({ "model": { "name": "same", "source": source } });
        model(own, &spec)
    };
    let accepted = |found: &ModelDeployment| support::reason(found, "Accepted") == Some("Valid");
    let taken = |found: &ModelDeployment| support::reason(found, "Ready") == Some("NameTaken");
    // Creation times have whole seconds; the name decides between equal ones.
    let params = PostParams::default();
    models.create(&params, &named("first")).await.unwrap();
    cluster.until(&models, "first", accepted).await;
    models.create(&params, &named("second")).await.unwrap();
    cluster.until(&models, "second", taken).await;
    for name in ["other", "same"] {
        let renamed = Patch::Merge(json!({ "spec": { "model": { "name": name } } }));
        let params = PatchParams::default();
        models.patch("first", &params, &renamed).await.unwrap();
        if name == "other" {
            cluster.until(&models, "second", accepted).await;
        } else {
            cluster.until(&models, "second", taken).await;
        }
    }
    let params = DeleteParams::default();
    models.delete("first", &params).await.unwrap();
    cluster.until(&models, "second", accepted).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_keys() {
    let Some(cluster) = Cluster::start("accounts").await else {
        return;
    };
    let (plans, keys) = (cluster.api::<Plan>(), cluster.api::<ApiKey>());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" },
        "stringData": { "key": "sk-a key of nobody\n" },
    });
    let key = json!({
        "apiVersion": "inferyard.dev/v1alpha1", "kind": "ApiKey", "metadata": { "name": "k" },
        "spec": { "plan": "basic", "secret": { "name": "s", "key": "key" } },
    });
    let plan = json!({
        "apiVersion": "inferyard.dev/v1alpha1", "kind": "Plan", "metadata": { "name": "basic" },
        "spec": { "models": ["demo"] },
    });
    let params = PostParams::default();
    keys.create(&params, &serde_json::from_value(key).unwrap())
        .await
        .unwrap();
    let said = |found: &ApiKey| {
        let conditions = &found.status.as_ref()?.conditions;
        Some(conditions.first()?.message.clone())
    };
    cluster
        .until(&keys, "k", |found| {
            said(found).is_some_and(|said| said.contains("there is no Secret s"))
        })
        .await;
    let secrets = cluster.api::<Secret>();
    secrets
        .create(&params, &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    plans
        .create(&params, &serde_json::from_value(plan).unwrap())
        .await
        .unwrap();
    let found = cluster
        .until(&keys, "k", |found| found.hash().is_some())
        .await;
    let hash = inferyard_keys::KeyHash::of(b"sk-a key of nobody").to_string();
    assert_eq!(found.hash(), Some(hash.as_str()));
    let missing = |found: &Plan| {
        let conditions = found.status.as_ref().map(|status| &status.conditions);
        conditions
            .and_then(|all| all.first())
            .is_some_and(|said| said.message.contains("serves demo"))
    };
    cluster.until(&plans, "basic", missing).await;
    let models = cluster.api::<ModelDeployment>();
    models.create(&params, &quickstart("demo")).await.unwrap();
    cluster
        .until(&plans, "basic", |found| {
            !missing(found) && found.status.is_some()
        })
        .await;
    cluster.end().await;
}

/// Both work at the same time, as if a lease had failed: neither undoes what the other does.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_do_no_harm() {
    let Some(cluster) = Cluster::start("pair").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let deployments = cluster.api::<Deployment>();
    let second = cluster.another_operator();
    models
        .create(&PostParams::default(), &quickstart("demo"))
        .await
        .unwrap();
    cluster
        .until(&models, "demo", |found| {
            support::reason(found, "Accepted") == Some("Valid")
        })
        .await;
    let made = deployments.get("demo-worker").await.unwrap();
    // Whatever either of them looks at, neither finds anything to do.
    for round in 0..5 {
        touch(&cluster, &second, round).await;
    }
    let after = deployments.get("demo-worker").await.unwrap();
    assert_eq!(
        after.metadata.generation, made.metadata.generation,
        "it flaps"
    );

    // Both carry out a change, and it is one change.
    let scale = json!({ "spec": { "replicas": 2 } });
    let before = (
        cluster.operator().reconciles().await,
        second.reconciles().await,
    );
    let params = PatchParams::default();
    models
        .patch_scale("demo", &params, &Patch::Merge(scale))
        .await
        .unwrap();
    cluster.operator().until_reconciled(before.0).await;
    second.until_reconciled(before.1).await;
    let scaled = |found: &Deployment| found.spec.as_ref().unwrap().replicas == Some(2);
    let scaled = cluster.until(&deployments, "demo-worker", scaled).await;
    assert_eq!(
        scaled.metadata.generation,
        made.metadata.generation.map(|it| it + 1)
    );
    second.end().await;
    cluster.end().await;
}

/// Changes a label of the model, and returns once both operators have looked at it.
async fn touch(cluster: &Cluster, second: &Operator, round: u32) {
    let before = (
        cluster.operator().reconciles().await,
        second.reconciles().await,
    );
    let label = json!({ "metadata": { "labels": { "round": round.to_string() } } });
    let patch = Patch::Merge(&label);
    let models = cluster.api::<ModelDeployment>();
    models
        .patch("demo", &PatchParams::default(), &patch)
        .await
        .unwrap();
    cluster.operator().until_reconciled(before.0).await;
    second.until_reconciled(before.1).await;
}

/// The release that looks after a model, by its status.
fn manager(found: &ModelDeployment) -> Option<&str> {
    found.status.as_ref()?.managed_by.as_deref()
}

/// The first one that is there has the models; the other one says so, and leaves them alone.
#[tokio::test(flavor = "multi_thread")]
async fn two_releases_do_not_fight_over_a_namespace() {
    let Some(mut cluster) = Cluster::start("releases").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let deployments = cluster.api::<Deployment>();
    let (first, params) = (cluster.release(), PostParams::default());
    models.create(&params, &quickstart("demo")).await.unwrap();
    let by_first = |found: &ModelDeployment| manager(found) == Some(&first);
    cluster.until(&models, "demo", by_first).await;
    let made = deployments.get("demo-worker").await.unwrap();

    let image = "inferyard.invalid/second:1";
    let second = cluster.another_release(image);
    let events = cluster.api::<Event>();
    let told = |event: &Event| {
        let note = event.note.as_deref().unwrap_or_default();
        event.reason.as_deref() == Some("ManagedElsewhere") && note.contains(&first)
    };
    cluster.until_any(&events, told).await;
    for round in 0..3 {
        touch(&cluster, &second, round).await;
    }
    let after = deployments.get("demo-worker").await.unwrap();
    assert_eq!(
        after.metadata.generation, made.metadata.generation,
        "they fight"
    );
    assert_eq!(worker_image(&after), worker_image(&made));
    assert!(by_first(&models.get("demo").await.unwrap()));

    // The first one is gone, and its Lease has run out.
    cluster.end_operator().await;
    let leases = cluster.api::<Lease>();
    let params = DeleteParams::default();
    leases.delete("inferyard-owner", &params).await.unwrap();
    let taken = |found: &ModelDeployment| {
        manager(found).is_some_and(|release| release.ends_with("/second"))
    };
    cluster.until(&models, "demo", taken).await;
    let after = deployments.get("demo-worker").await.unwrap();
    assert_eq!(worker_image(&after), Some(image));
    second.end().await;
    cluster.end().await;
}

fn worker_image(deployment: &Deployment) -> Option<&str> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.as_deref()
}
