//! What became of a model: its Deployment and pods, what its workers say, and what its volume waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{WatchRequest, WorkerState};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};
use tonic::transport::Endpoint;

use crate::apply::Applied;
use crate::build::GRPC_PORT;
use crate::dereference::Dereferenced;
use crate::kind::Kind;

/// A worker that does not answer so soon is asked the next time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Workers that are asked at once.
const AT_ONCE: usize = 32;

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
pub(crate) async fn reports(
    pods: &[&Arc<Pod>],
    patience: Duration,
) -> BTreeMap<String, WorkerState> {
    let mut reports = BTreeMap::new();
    for group in pods.chunks(AT_ONCE) {
        let answers = group.iter().map(|pod| async {
            let answer = tokio::time::timeout(patience, ask(pod)).await;
            Some((pod.name_any(), answer.ok().flatten()?))
        });
        reports.extend(join_all(answers).await.into_iter().flatten());
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
