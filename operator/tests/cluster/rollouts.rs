//! Rollouts by the real controllers, on a cluster without a node: what a scheduler and a kubelet would say of a pod, the
//! test says.

use inferyard_crds::ModelDeployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::support::{self, Cluster, model};

/// The pod of the model that is not one of these, once there is one.
async fn next_pod(cluster: &Cluster, known: &[String]) -> String {
    let pods = cluster.api::<Pod>();
    let found = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let all = pods.list(&ListParams::default()).await.unwrap().items;
            let new = all.iter().map(ResourceExt::name_any);
            if let Some(new) = new.into_iter().find(|name| !known.contains(name)) {
                return new;
            }
        }
    };
    tokio::time::timeout(support::BOUND, found)
        .await
        .expect("a pod should be made")
}

/// As a scheduler that finds no room for this pod.
async fn find_no_room(pods: &Api<Pod>, name: &str) {
    let message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.";
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": Timestamp::now().to_string(),
    });
    let status = json!({ "status": { "conditions": [condition] } });
    let params = PatchParams::default();
    pods.patch_status(name, &params, &Patch::Strategic(&status))
        .await
        .unwrap();
}

/// As a kubelet that runs the worker of this pod.
async fn answer(pods: &Api<Pod>, name: &str) {
    let status = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    let params = PatchParams::default();
    pods.patch_status(name, &params, &Patch::Strategic(&status))
        .await
        .unwrap();
}

/// Whether `Ready` has this reason, and `Available` this status.
fn says(reason: &str, available: &str) -> impl Fn(&ModelDeployment) -> bool {
    move |found| {
        support::reason(found, "Ready") == Some(reason)
            && support::status(found, "Available") == Some(available)
    }
}

async fn change(models: &Api<ModelDeployment>, spec: serde_json::Value) {
    let params = PatchParams::default();
    let patch = Patch::Merge(json!({ "spec": spec }));
    models.patch("demo", &params, &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_without_room_reports_the_serving_workers_and_the_remedy() {
    let Some(cluster) = Cluster::start("rollout").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let pods = cluster.api::<Pod>();
    let spec = json!({
        "model": { "source": { "builtin": { "name": "demo" } } },
        "podTemplate": { "spec": { "schedulerName": "the-test" } },
    });
    let params = PostParams::default();
    models.create(&params, &model("demo", &spec)).await.unwrap();
    let old = next_pod(&cluster, &[]).await;
    find_no_room(&pods, &old).await;
    cluster
        .until(&models, "demo", says("NoNodeFits", "False"))
        .await;
    answer(&pods, &old).await;
    let found = cluster
        .until(&models, "demo", says("AllReady", "True"))
        .await;
    assert_eq!(found.status.unwrap().required_replicas, 1);

    // There is no room for a second one.
    change(
        &models,
        json!({ "engine": { "embedded": { "maxRunning": 2 } } }),
    )
    .await;
    let waiting = next_pod(&cluster, std::slice::from_ref(&old)).await;
    find_no_room(&pods, &waiting).await;
    let found = cluster
        .until(&models, "demo", says("RolloutWaits", "True"))
        .await;
    let message = support::message(&found, "Ready").unwrap();
    for told in ["1 old worker serves meanwhile", "spec.rollout.maxSurge: 0"] {
        assert!(message.contains(told), "{message}");
    }
    assert_eq!(support::status(&found, "Progressing"), Some("True"));

    // The cure: the old one goes.
    change(&models, json!({ "rollout": { "maxSurge": 0 } })).await;
    cluster
        .until(&models, "demo", says("NoNodeFits", "False"))
        .await;
    answer(&pods, &waiting).await;
    cluster
        .until(&models, "demo", says("AllReady", "True"))
        .await;
    let gone =
        |found: Option<&Pod>| found.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
    tokio::time::timeout(support::BOUND, await_condition(pods, &old, gone))
        .await
        .expect("the old worker should be asked to go")
        .unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_holds_a_worker_back_is_named() {
    let Some(cluster) = Cluster::start("gated").await else {
        return;
    };
    let models = cluster.api::<ModelDeployment>();
    let gate = "kueue.x-k8s.io/admission";
    let spec = json!({
        "model": { "source": { "builtin": { "name": "demo" } } },
        "podTemplate": { "spec": { "schedulingGates": [{ "name": gate }] } },
    });
    let params = PostParams::default();
    models.create(&params, &model("demo", &spec)).await.unwrap();
    let found = cluster
        .until(&models, "demo", says("SchedulingGated", "False"))
        .await;
    assert_eq!(support::status(&found, "Progressing"), Some("True"));
    let message = support::message(&found, "Scheduled").unwrap();
    assert!(message.contains(gate), "{message}");
    cluster.end().await;
}
