//! Reads what became of a model: its Deployment, its pods, the states of its workers, and its volume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use inferyard_proto::worker::v1::WorkerState;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};

use crate::apply::Applied;
use crate::dereference::Dereferenced;
use crate::kind::Kind;
use crate::pods::is_ready;
use crate::workers;

/// Time limit for asking all workers of a model. The next reconcile asks those that did not answer again.
const LIMIT: Duration = Duration::from_secs(2);

/// What became of a model.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) deployment: Option<Arc<DynamicObject>>,
    /// The digest of the declared pod template. None: the declaration is refused.
    pub(crate) template: Option<String>,
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Pods that have ended for good.
    pub(crate) ended: Vec<Arc<Pod>>,
    /// The states of the workers that are not ready, by the names of their pods.
    pub(crate) reports: BTreeMap<String, WorkerState>,
    /// Why the volume for weights is not bound, if it is not.
    pub(crate) volume: Option<UnboundVolume>,
}

/// Why the volume for weights is not bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnboundVolume {
    /// The storage class of this name does not exist. None: the cluster has no default storage class.
    ClassMissing(Option<String>),
    /// The volume of this claim is not provisioned yet.
    Pending(String),
}

/// Reads all of it. Nothing here writes.
pub(crate) async fn observe(
    client: &Client,
    found: &Dereferenced,
    applied: &Applied,
    template: Option<String>,
) -> Observed {
    let waiting: Vec<_> = (found.pods.iter()).filter(|pod| !is_ready(pod)).collect();
    let reports = workers::states(&waiting, LIMIT).await;
    let volume = match found.live.get(&Kind::PersistentVolumeClaim) {
        Some(claim) if !waiting.is_empty() => unbound(client, claim).await,
        _ => None,
    };
    Observed {
        deployment: (applied.deployment.clone())
            .or_else(|| found.live.get(&Kind::Deployment).cloned()),
        template,
        pods: found.pods.clone(),
        ended: found.ended.clone(),
        reports,
        volume,
    }
}

/// Why a claim has no volume.
async fn unbound(client: &Client, claim: &DynamicObject) -> Option<UnboundVolume> {
    if claim.data["status"]["phase"] != "Pending" {
        return None;
    }
    let pending = Some(UnboundVolume::Pending(claim.name_any()));
    let classes = Api::<StorageClass>::all(client.clone());
    let Some(class) = claim.data["spec"]["storageClassName"].as_str() else {
        return Some(UnboundVolume::ClassMissing(None));
    };
    match classes.get_opt(class).await {
        Ok(None) => Some(UnboundVolume::ClassMissing(Some(class.to_owned()))),
        Ok(Some(_)) => pending,
        Err(error) => {
            tracing::debug!(%error, class, "cannot read the storage class");
            pending
        }
    }
}
