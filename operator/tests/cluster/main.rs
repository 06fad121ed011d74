//! The operator before a real API server, named by `INFERYARD_TEST_KUBECONFIG`; without one these tests say
//! loudly that they were skipped.

mod support;

use std::time::Duration;

use inferyard_crds::{ApiKey, ModelDeployment, Plan};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use support::{Cluster, model};

/// The builtin model, whose image does not exist here.
fn quickstart(name: &str) -> ModelDeployment {
    model(
        name,
        &json!({ "model": { "source": { "builtin": { "name": "demo" } } } }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn from_creation_to_deletion() {
    let Some(cluster) = Cluster::start("lifecycle").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let deployments = cluster.api::<Deployment>();
    let before = cluster.requests().await;
    models
        .create(&PostParams::default(), &quickstart("demo"))
        .await
        .unwrap();
    cluster
        .until(&models, "demo", |found| {
            support::reason(found, "Accepted") == Some("Valid")
        })
        .await;
    let made = cluster.quiet().await;
    println!(
        "API requests for a new model: {}",
        support::difference(&before, &made)
    );
    let live = deployments.get("demo-worker").await.unwrap();
    assert_eq!(live.spec.as_ref().unwrap().replicas, Some(1));
    assert!(
        cluster
            .api::<ServiceAccount>()
            .get_opt("demo-worker")
            .await
            .unwrap()
            .is_some()
    );

    // A reconcile that has nothing to do writes nothing.
    let reconciles = cluster.reconciles().await;
    let label = json!({ "metadata": { "labels": { "touched": "yes" } } });
    let params = PatchParams::default();
    models
        .patch("demo", &params, &Patch::Merge(&label))
        .await
        .unwrap();
    cluster.until_reconciled(reconciles).await;
    let after = cluster.quiet().await;
    println!(
        "API requests for a reconcile without a change: {}",
        support::difference(&made, &after)
    );
    assert_eq!(support::writes(&made), support::writes(&after));

    // What somebody changes is put right.
    let drift = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "worker", "image": "something/else:1" },
    ] } } } });
    deployments
        .patch("demo-worker", &params, &Patch::Strategic(&drift))
        .await
        .unwrap();
    let drifted = deployments
        .get("demo-worker")
        .await
        .unwrap()
        .metadata
        .generation;
    let image = |found: &Deployment| {
        let spec = found.spec.as_ref()?.template.spec.as_ref()?;
        spec.containers.first()?.image.clone()
    };
    cluster
        .until(&deployments, "demo-worker", |found| {
            image(found).as_deref() == Some("inferyard.invalid/none:1")
                && found.metadata.generation > drifted
        })
        .await;
    // A label of ours, which is not part of the generation.
    let label = json!({ "metadata": { "labels": { "app.kubernetes.io/part-of": "else" } } });
    deployments
        .patch("demo-worker", &params, &Patch::Merge(&label))
        .await
        .unwrap();
    cluster
        .until(&deployments, "demo-worker", |found| {
            let labels = found.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get("app.kubernetes.io/part-of"))
                .map(String::as_str)
                == Some("inferyard")
        })
        .await;

    // `kubectl scale`, and the budget that comes and goes with it.
    let scale = |replicas: i32| json!({ "spec": { "replicas": replicas } });
    let budgets = cluster.api::<PodDisruptionBudget>();
    let before = cluster.quiet().await;
    models
        .patch_scale("demo", &params, &Patch::Merge(scale(3)))
        .await
        .unwrap();
    cluster
        .until(&deployments, "demo-worker", |found| {
            found.spec.as_ref().unwrap().replicas == Some(3)
        })
        .await;
    cluster.until(&budgets, "demo-worker", |_| true).await;
    let scaled = cluster.quiet().await;
    println!(
        "API requests for a change of scale: {}",
        support::difference(&before, &scaled)
    );
    models
        .patch_scale("demo", &params, &Patch::Merge(scale(1)))
        .await
        .unwrap();
    cluster.until_gone(&budgets, "demo-worker").await;

    models
        .delete("demo", &DeleteParams::default())
        .await
        .unwrap();
    cluster.until_gone(&deployments, "demo-worker").await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_not_ready() {
    let Some(cluster) = Cluster::start("stalls").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let began = std::time::Instant::now();
    let builtin = json!({ "source": { "builtin": { "name": "demo" } } });
    let gpus = json!({ "model": builtin, "accelerators": { "class": "nvidia", "count": 2 } });
    let claim = json!({
        "model": { "source": { "huggingFace": { "repo": "a/b" } } },
        "weights": { "storage": { "size": "1Gi", "storageClassName": "none-such" } },
    });
    let refused = json!({
        "model": builtin,
        "podTemplate": { "spec": { "containers": [{ "name": "worker", "imagePullPolicy": "Sometimes" }] } },
    });
    let table = [
        ("gpus", gpus, "NoNodeFits"),
        ("claim", claim, "StorageClassMissing"),
        ("refused", refused, "Refused"),
        (
            "class",
            json!({ "model": builtin, "accelerators": { "class": "tpu" } }),
            "NotFound",
        ),
        (
            "file",
            json!({ "model": { "source": { "file": { "path": "m.gguf" } } } }),
            "Invalid",
        ),
    ];
    for (name, spec, _) in &table {
        models
            .create(&PostParams::default(), &model(name, spec))
            .await
            .unwrap();
    }
    for (name, _, reason) in &table {
        let found = cluster
            .until(&models, name, |found| {
                support::reason(found, "Ready") == Some(reason)
            })
            .await;
        let message = support::message(&found, "Ready").unwrap_or_default();
        println!(
            "{name}: {reason} after {:.1} s: {message}",
            began.elapsed().as_secs_f64()
        );
    }
    // Who comes second has no name, until the first is gone.
    let named = |own: &str| {
        model(
            own,
            &json!({ "model": { "name": "same", "source": builtin["source"] } }),
        )
    };
    models
        .create(&PostParams::default(), &named("first"))
        .await
        .unwrap();
    cluster
        .until(&models, "first", |found| {
            support::reason(found, "Accepted") == Some("Valid")
        })
        .await;
    // Creation times have whole seconds; the name decides between equal ones.
    models
        .create(&PostParams::default(), &named("second"))
        .await
        .unwrap();
    cluster
        .until(&models, "second", |found| {
            support::reason(found, "Ready") == Some("NameTaken")
        })
        .await;
    models
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until(&models, "second", |found| {
            support::reason(found, "Accepted") == Some("Valid")
        })
        .await;
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
    let hash = inferyard_keys::KeyHash::of(b"sk-a key of nobody").0;
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
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
    let second = cluster.another_operator("elsewhere").await;
    models
        .create(&PostParams::default(), &quickstart("demo"))
        .await
        .unwrap();
    cluster
        .until(&models, "demo", |found| {
            support::reason(found, "Accepted") == Some("Valid")
        })
        .await;
    cluster.quiet().await;
    let one = deployments.get("demo-worker").await.unwrap();
    let before = cluster.quiet().await;
    // A while in which flapping would show: more than two periods of progress.
    let changed = tokio::time::timeout(
        Duration::from_secs(25),
        cluster.until(&deployments, "demo-worker", |found| {
            found.metadata.resource_version != one.metadata.resource_version
        }),
    );
    assert!(changed.await.is_err(), "the Deployment flaps");
    let after = cluster.quiet().await;
    println!(
        "two operators, 25 s: {}",
        support::difference(&before, &after)
    );
    second.end().await;
    cluster.end().await;
}
