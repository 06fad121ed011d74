//! What became of a model: its Deployment and pods, what its workers say, and what its volume waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{WatchRequest, WorkerState};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Endpoint;

use crate::apply::Applied;
use crate::dereference::Dereferenced;
use crate::kind::Kind;
use crate::names::GRPC_PORT;

/// Workers that do not answer so soon, all together, are asked the next time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Workers that are asked at once.
const AT_ONCE: usize = 256;
/// Where there are more, each may take this part of the time, so that those that hang leave some of it for others.
const PART: u32 = 2;

/// What is to be seen of a model.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) deployment: Option<Arc<DynamicObject>>,
    /// The digest of the template that is declared, if one can be made.
    pub(crate) template: Option<String>,
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Pods that have ended for good.
    pub(crate) over: Vec<Arc<Pod>>,
    /// What those workers say that are not ready, by pod.
    pub(crate) reports: BTreeMap<String, WorkerState>,
    /// What a volume waits for, if it is known.
    pub(crate) volume: Option<Volume>,
}

/// What a volume waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Volume {
    /// A storage class of this name, or, without a name, any default one, which does not exist.
    ClassMissing(Option<String>),
    /// Whoever provides it.
    Pending(String),
}

/// Looks at all of it.
pub(crate) async fn observe(
    client: &Client,
    found: &Dereferenced,
    applied: &Applied,
    template: Option<String>,
) -> Observed {
    let waiting: Vec<_> = (found.pods.iter()).filter(|pod| !is_ready(pod)).collect();
    let reports = reports(&waiting, PATIENCE).await;
    let volume = match found.live.get(&Kind::PersistentVolumeClaim) {
        Some(claim) if !waiting.is_empty() => volume(client, claim).await,
        _ => None,
    };
    Observed {
        deployment: (applied.deployment.clone())
            .or_else(|| found.live.get(&Kind::Deployment).cloned()),
        template,
        pods: found.pods.clone(),
        over: found.over.clone(),
        reports,
        volume,
    }
}

/// Whether a pod takes requests.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == Some("True")
}

/// The status of a condition of a pod.
pub(crate) fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|found| found.type_ == type_)?;
    Some(&found.status)
}

/// What workers say of themselves, by the names of their pods. One that does not answer in time is left out.
/// However many there are, it takes no longer than `patience`.
pub(crate) async fn reports(
    pods: &[&Arc<Pod>],
    patience: Duration,
) -> BTreeMap<String, WorkerState> {
    let pods = pods.iter().map(|pod| Arc::clone(pod));
    reports_by(
        pods.collect(),
        patience,
        |pod| async move { ask(&pod).await },
    )
    .await
}

async fn reports_by<A: Future<Output = Option<WorkerState>>>(
    pods: Vec<Arc<Pod>>,
    patience: Duration,
    ask: impl Fn(Arc<Pod>) -> A,
) -> BTreeMap<String, WorkerState> {
    let deadline = Instant::now() + patience;
    let each = if pods.len() > AT_ONCE {
        patience / PART
    } else {
        patience
    };
    let asked = pods.into_iter().map(|pod| {
        let name = pod.name_any();
        let answer = ask(pod);
        async move { Some((name, timeout(each, answer).await.ok()??)) }
    });
    let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
    let mut reports = BTreeMap::new();
    while let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await {
        reports.extend(answer);
    }
    reports
}

/// What a worker, or what fetches for it, says of itself. None: it does not listen yet.
async fn ask(pod: &Pod) -> Option<WorkerState> {
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    let address = if address.contains(':') {
        format!("http://[{address}]:{GRPC_PORT}")
    } else {
        format!("http://{address}:{GRPC_PORT}")
    };
    let channel = Endpoint::from_shared(address).ok()?.connect().await.ok()?;
    let mut states = WorkerClient::new(channel)
        .watch(WatchRequest {})
        .await
        .ok()?;
    states.get_mut().message().await.ok()?
}

/// Why a claim has no volume.
async fn volume(client: &Client, claim: &DynamicObject) -> Option<Volume> {
    if claim.data["status"]["phase"] != "Pending" {
        return None;
    }
    let pending = Some(Volume::Pending(claim.name_any()));
    let classes = Api::<StorageClass>::all(client.clone());
    let Some(class) = claim.data["spec"]["storageClassName"].as_str() else {
        return Some(Volume::ClassMissing(None));
    };
    match classes.get_opt(class).await {
        Ok(None) => Some(Volume::ClassMissing(Some(class.to_owned()))),
        Ok(Some(_)) => pending,
        Err(error) => {
            tracing::debug!(%error, "the storage class could not be looked up");
            pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        let named = |number| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(format!("w-{number:04}"));
            Arc::new(pod)
        };
        (0..count).map(named).collect()
    }

    /// A network that swallows everything must not hold up other models.
    #[tokio::test(start_paused = true)]
    async fn however_many_hang_it_takes_no_longer() {
        let began = Instant::now();
        let found = reports_by(pods(2_000), PATIENCE, |_| std::future::pending()).await;
        assert!(found.is_empty());
        assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_heard_beside_those_who_hang() {
        let hang = AT_ONCE;
        let found = reports_by(pods(hang + 10), PATIENCE, |pod| async move {
            if pod.name_any() < format!("w-{hang:04}") {
                std::future::pending::<()>().await;
            }
            Some(WorkerState::default())
        });
        assert_eq!(found.await.len(), 10);
    }
}
