//! Before a scale-down: sets the deletion cost of each pod, so that Kubernetes removes the least busy workers first.

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
use crate::pods::is_ready;
use crate::workers;

/// Time limit for asking the workers. A busy worker on a busy node answers slowly, and a worker that does not answer is
/// removed first.
const LIMIT: Duration = Duration::from_secs(10);
/// Number of pods that are patched at the same time.
const CONCURRENCY: usize = 16;
/// The ReplicaSet controller removes the pods with the lowest cost first. The cost of a pod without the annotation is
/// 0.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The deletion cost of a pod could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the deletion cost of pod {pod}; a busier worker may be removed before it")]
struct DeletionCostError {
    pod: String,
    #[source]
    source: kube::Error,
}

/// Sets the deletion cost of all ready pods, if the model is to have fewer workers than it has.
///
/// Errors are logged: a scale-down that removes the wrong worker is better than none.
pub(crate) async fn set_deletion_costs(client: &Client, found: &Dereferenced, desired: i32) {
    let live = found.live.get(&Kind::Deployment);
    let Some(live) = live.and_then(|live| live.data["spec"]["replicas"].as_i64()) else {
        return;
    };
    if live <= i64::from(desired) || desired == 0 {
        return;
    }
    let ready: Vec<_> = (found.pods.iter()).filter(|pod| is_ready(pod)).collect();
    let states = workers::states(&ready, LIMIT).await;
    let costs = ready.into_iter().map(|pod| {
        // A worker that does not answer is not worth keeping.
        let cost = states.get(&pod.name_any()).map_or(0, deletion_cost);
        (Arc::clone(pod), cost)
    });
    let costs: Vec<_> = costs.collect();
    let patches = stream::iter(costs)
        .map(|(pod, cost)| async move { set_deletion_cost(client, &pod, cost).await })
        .buffer_unordered(CONCURRENCY);
    let report = async |result: Result<(), DeletionCostError>| {
        if let Err(error) = result {
            tracing::warn!(cause = %error.source, "{error}");
        }
    };
    patches.for_each(report).await;
}

/// How busy a worker is, in tokens: those that it processed within the last minute, those that wait to be processed,
/// and one for each request. The current number of requests alone is no measure: a worker whose streams run in step has
/// none between the end of one round and the start of the next.
fn deletion_cost(state: &WorkerState) -> i32 {
    let requests = u64::from(state.running) + u64::from(state.queued);
    let tokens = state
        .worked_tokens_last_minute
        .saturating_add(state.queued_prefill_tokens);
    i32::try_from(tokens.saturating_add(requests)).unwrap_or(i32::MAX)
}

async fn set_deletion_cost(client: &Client, pod: &Pod, cost: i32) -> Result<(), DeletionCostError> {
    let cost = cost.to_string();
    let current = pod.annotations().get(DELETION_COST);
    if current.map_or("0", String::as_str) == cost {
        return Ok(());
    }
    let name = pod.name_any();
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = json!({ "metadata": { "annotations": { DELETION_COST: cost } } });
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_metadata(&name, &params, &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(source) => Err(DeletionCostError { pod: name, source }),
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
