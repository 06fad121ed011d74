//! Asks workers for their state over gRPC (`Watch`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use inferyard_crds::WORKER_GRPC_PORT;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{WatchRequest, WorkerState};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Endpoint;

/// Number of workers that are asked at the same time.
const CONCURRENCY: usize = 256;
/// With more workers than `CONCURRENCY`, each may take this fraction of the time, so that workers that hang leave
/// time for the others.
const SLICES: u32 = 2;

/// The states of workers, by the names of their pods. A worker that does not answer in time is left out. The call takes
/// at most `limit`, whatever the number of pods is.
pub(crate) async fn states(pods: &[&Arc<Pod>], limit: Duration) -> BTreeMap<String, WorkerState> {
    let pods = pods.iter().map(|pod| Arc::clone(pod));
    states_by(pods.collect(), limit, |pod| async move { ask(&pod).await }).await
}

async fn states_by<A: Future<Output = Option<WorkerState>>>(
    pods: Vec<Arc<Pod>>,
    limit: Duration,
    ask: impl Fn(Arc<Pod>) -> A,
) -> BTreeMap<String, WorkerState> {
    let deadline = Instant::now() + limit;
    let each = if pods.len() > CONCURRENCY {
        limit / SLICES
    } else {
        limit
    };
    let calls = pods.into_iter().map(|pod| {
        let name = pod.name_any();
        let call = ask(pod);
        async move { Some((name, timeout(each, call).await.ok()??)) }
    });
    let mut calls = stream::iter(calls).buffer_unordered(CONCURRENCY);
    let mut states = BTreeMap::new();
    while let Ok(Some(state)) = timeout_at(deadline, calls.next()).await {
        states.extend(state);
    }
    states
}

/// The state of a worker, or of the init container that downloads for it. None: it does not listen yet.
async fn ask(pod: &Pod) -> Option<WorkerState> {
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    let address = if address.contains(':') {
        format!("http://[{address}]:{WORKER_GRPC_PORT}")
    } else {
        format!("http://{address}:{WORKER_GRPC_PORT}")
    };
    let channel = Endpoint::from_shared(address).ok()?.connect().await.ok()?;
    let mut states = WorkerClient::new(channel)
        .watch(WatchRequest {})
        .await
        .ok()?;
    states.get_mut().message().await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        let named = |number| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(format!("w-{number:04}"));
            Arc::new(pod)
        };
        (0..count).map(named).collect()
    }

    /// Pods behind a broken network must not delay other models.
    #[tokio::test(start_paused = true)]
    async fn hanging_workers_do_not_extend_the_call() {
        let began = Instant::now();
        let found = states_by(pods(2_000), LIMIT, |_| std::future::pending()).await;
        assert!(found.is_empty());
        assert!(began.elapsed() <= LIMIT, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_answer_are_found_among_hanging_ones() {
        let hang = CONCURRENCY;
        let found = states_by(pods(hang + 10), LIMIT, |pod| async move {
            if pod.name_any() < format!("w-{hang:04}") {
                std::future::pending::<()>().await;
            }
            Some(WorkerState::default())
        });
        assert_eq!(found.await.len(), 10);
    }
}
