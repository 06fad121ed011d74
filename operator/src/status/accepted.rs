//! The one condition of plans and keys.

use inferyard_crds::{Condition, ConditionType, Reason};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::MANAGER;

/// Whether all that it names exists.
pub(crate) fn accepted(
    said: Result<String, (Reason, String)>,
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let said = match said {
        Ok(message) => super::yes(Reason::Valid, &message),
        Err((reason, message)) => super::no(reason, &message),
    };
    super::dated(
        vec![(ConditionType::Accepted, said)],
        before,
        generation,
        now,
    )
}

/// Writes the status; the answer is how it went, for the metrics.
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
            tracing::warn!(%error, kind, name, "a status was not written");
            "error"
        }
    }
}
