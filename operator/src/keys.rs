//! The hash of a key that is in a Secret, and whether its plan exists, said in the status of the `ApiKey`.

use std::collections::BTreeSet;
use std::time::Duration;

use inferyard_crds::{ApiKey, ApiKeyStatus, Plan, Reason, SecretKey};
use inferyard_keys::KeyHash;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};

use crate::claims::Claims;
use crate::metrics::Metrics;
use crate::status::{accepted, write_accepted};

/// How often Secrets are read again.
pub(crate) const AGAIN: Duration = Duration::from_mins(1);
/// A key's text is shorter; a longer one is something else, put there by mistake.
const MAX_KEY_BYTES: usize = 512;

type Refused = (Reason, String);

/// Checks all keys.
pub(crate) async fn check_all(
    client: &Client,
    metrics: &Metrics,
    claims: &Claims,
    keys: &Store<DeserializeGuard<ApiKey>>,
    plans: &Store<DeserializeGuard<Plan>>,
) {
    let plans = plans.state();
    for key in keys.state() {
        let Ok(key) = &key.0 else { continue };
        let namespace = key.namespace().unwrap_or_default();
        if !claims.is_ours(&namespace) {
            continue;
        }
        let known: BTreeSet<String> = (plans.iter())
            .filter(|plan| plan.namespace().as_deref() == Some(&namespace))
            .map(|plan| plan.name_any())
            .collect();
        let hash = match &key.spec.secret {
            Some(from) => hashed(client, &namespace, from).await.map(Some),
            None => Ok(None),
        };
        let status = status(key, &known, hash, Timestamp::now());
        if key.status.as_ref() == Some(&status) {
            continue;
        }
        let api = Api::<ApiKey>::namespaced(client.clone(), &namespace);
        let written = write_accepted(&api, "ApiKey", &key.name_any(), &status).await;
        metrics.reconciled("ApiKey", written);
    }
}

fn status(
    key: &ApiKey,
    plans: &BTreeSet<String>,
    hash: Result<Option<String>, Refused>,
    now: Timestamp,
) -> ApiKeyStatus {
    let before = key.status.as_ref();
    let said = match &hash {
        Err(refused) => Err(refused.clone()),
        Ok(_) if !plans.contains(&key.spec.plan) => {
            let message = format!("spec.plan: there is no Plan {}", key.spec.plan);
            Err((Reason::NotFound, message))
        }
        Ok(_) => Ok(format!("its callers are on the Plan {}", key.spec.plan)),
    };
    // A Secret that cannot be read now does not lock anybody out.
    let kept = || before.and_then(|before| before.hash.clone());
    let hash = match hash {
        Ok(hash) => hash,
        Err(_) => kept(),
    };
    let generation = key.metadata.generation.unwrap_or(0);
    let conditions = before.map_or(&[][..], |status| &status.conditions);
    ApiKeyStatus {
        observed_generation: generation,
        hash,
        conditions: accepted(said, conditions, generation, now),
    }
}

/// The hash of what the Secret holds. Its text goes no further than here.
async fn hashed(client: &Client, namespace: &str, from: &SecretKey) -> Result<String, Refused> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let missing = |what: String| Err((Reason::NotFound, format!("spec.secret: {what}")));
    let secret = match secrets.get_opt(&from.name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return missing(format!("there is no Secret {}", from.name)),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let message = format!(
                "the operator may not read the Secret {}: allow it to get this one by a Role",
                from.name
            );
            return Err((Reason::Refused, message));
        }
        Err(error) => {
            tracing::warn!(%error, "a Secret was not read");
            return Err((Reason::Refused, "the Secret cannot be read now".to_owned()));
        }
    };
    let entry = secret.data.as_ref().and_then(|data| data.get(&from.key));
    let Some(entry) = entry else {
        return missing(format!(
            "the Secret {} has no entry {}",
            from.name, from.key
        ));
    };
    // Files and editors end a text with a new line; no key does.
    let text = entry.0.trim_ascii();
    if text.is_empty() || text.len() > MAX_KEY_BYTES {
        let message = format!(
            "spec.secret: expected a key of 1 to {MAX_KEY_BYTES} bytes in the entry {} of {}, found {}",
            from.key,
            from.name,
            text.len()
        );
        return Err((Reason::Invalid, message));
    }
    Ok(KeyHash::of(text).to_string())
}
