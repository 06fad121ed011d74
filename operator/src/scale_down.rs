//! Before workers are removed: marks the least busy pods, so that Kubernetes removes them first.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use inferyard_proto::worker::v1::WorkerState;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::apply::MANAGER;
use crate::dereference::Dereferenced;
use crate::kind::Kind;
use crate::observe::{is_ready, reports};

/// How long a worker may take to tell how busy it is. A busy worker on a busy node is slow to answer, and the
/// one that does not answer goes first.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pods that are marked at once.
const AT_ONCE: usize = 16;
/// The ReplicaSet controller removes the pods with the lowest cost first; without the annotation it is 0.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Marks every ready pod with how busy its worker is, if fewer workers are wanted than there are.
pub(crate) async fn mark_least_busy(client: &Client, found: &Dereferenced, wanted: i32) {
    let live = found.live.get(&Kind::Deployment);
    let Some(live) = live.and_then(|live| live.data["spec"]["replicas"].as_i64()) else {
        return;
    };
    if live <= i64::from(wanted) || wanted == 0 {
        return;
    }
    let ready: Vec<_> = (found.pods.iter()).filter(|pod| is_ready(pod)).collect();
    let reports = reports(&ready, PATIENCE).await;
    let costs = ready.into_iter().map(|pod| {
        // One that does not answer is not worth keeping.
        let cost = reports.get(&pod.name_any()).map_or(0, deletion_cost);
        (Arc::clone(pod), cost)
    });
    let costs: Vec<_> = costs.collect();
    let marks =
        stream::iter(costs).map(|(pod, cost)| async move { mark(client, &pod, cost).await });
    marks.buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// How busy a worker is, in tokens: what it computed within the last minute, what waits to be computed, and
/// one for each request. A single moment is no measure: a worker that runs many streams in step has none
/// between the end of one round and the start of the next.
fn deletion_cost(state: &WorkerState) -> i32 {
    let requests = u64::from(state.running) + u64::from(state.queued);
    let tokens = state
        .worked_tokens_last_minute
        .saturating_add(state.queued_prefill_tokens);
    i32::try_from(tokens.saturating_add(requests)).unwrap_or(i32::MAX)
}

async fn mark(client: &Client, pod: &Pod, cost: i32) {
    let cost = cost.to_string();
    let marked = pod.annotations().get(DELETION_COST);
    if marked.map_or("0", String::as_str) == cost {
        return;
    }
    let name = pod.name_any();
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = json!({ "metadata": { "annotations": { DELETION_COST: cost } } });
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patched = api
        .patch_metadata(&name, &params, &Patch::Merge(&patch))
        .await;
    if let Err(error) = patched {
        tracing::warn!(%error, pod = name, "cannot mark the pod; a busier worker may be removed before it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_worked_lately_costs_more_than_one_that_did_not() {
        let idle = WorkerState {
            worked_tokens_total: 1_000_000,
            ..WorkerState::default()
        };
        let between_two_rounds = WorkerState {
            worked_tokens_last_minute: 3_200,
            ..WorkerState::default()
        };
        let just_begun = WorkerState {
            running: 1,
            queued: 2,
            ..WorkerState::default()
        };
        let with_long_prompts = WorkerState {
            queued_prefill_tokens: 40_000,
            ..just_begun.clone()
        };
        let endless = WorkerState {
            worked_tokens_last_minute: u64::MAX,
            running: 1,
            ..WorkerState::default()
        };
        let table = [
            (&idle, 0),
            (&just_begun, 3),
            (&between_two_rounds, 3_200),
            (&with_long_prompts, 40_003),
            (&endless, i32::MAX),
        ];
        for (state, expected) in table {
            assert_eq!(deletion_cost(state), expected, "{state:?}");
        }
    }
}
