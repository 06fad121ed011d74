//! The condition `Accepted` of plans and keys.

use inferyard_crds::{Condition, ConditionType, Reason};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::MANAGER;

/// The condition `Accepted`.
pub(crate) fn accepted(
    accepted: Result<String, (Reason, String)>,
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let value = match accepted {
        Ok(message) => super::condition_true(Reason::Valid, &message),
        Err((reason, message)) => super::condition_false(reason, &message),
    };
    super::with_transition_times(
        vec![(ConditionType::Accepted, value)],
        before,
        generation,
        now,
    )
}

/// Writes the status. Returns the result as the value of a metric label.
pub(crate) async fn write_accepted<K, S>(
    api: &Api<K>,
    kind: &str,
    name: &str,
    status: &S,
) -> &'static str
where
    K: DeserializeOwned,
    S: Serialize,
{
    let patch = json!({
        "apiVersion": inferyard_crds::API_VERSION,
        "kind": kind,
        "metadata": { "name": name },
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(&patch)).await {
        Ok(_) => "ok",
        Err(error) => {
            tracing::warn!(%error, kind, name, "cannot write a status");
            "error"
        }
    }
}
