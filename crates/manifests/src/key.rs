//! Keys: converts the custom resource into what the router looks up.

use std::sync::Arc;
use std::time::SystemTime;

use inferyard_catalog::{Key, KeyHash, Plan};
use inferyard_crds::{ApiKeySpec, HALF_A_ROTATION, HASH_OR_SECRET, SAME_HASH};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::mistake::Report;
use crate::plan;

/// The message for a key that names a Secret, of which no hash has been computed.
const NOT_HASHED: &str =
    "expected hash: only the operator of a cluster makes one of a Secret, and none has done so yet";

/// A key under one of its hashes.
#[derive(Debug)]
pub struct DeclaredKey {
    /// The field that has the hash.
    pub path: &'static str,
    /// The SHA-256 of the key's text.
    pub hash: KeyHash,
    /// The key as the router uses it.
    pub key: Key,
}

/// Converts the `spec` of an ApiKey on `plan`: one key for its hash, and one for its previous hash while a rotation
/// lasts. Rules that the schema cannot state go to `report`.
///
/// # Panics
///
/// If `spec` violates the schema: check it with [`check_spec`](crate::check_spec) first.
#[must_use]
pub fn convert(
    name: &str,
    spec: &ApiKeySpec,
    plan: &Arc<Plan>,
    report: Report<'_>,
) -> Vec<DeclaredKey> {
    let limits = spec.limits.as_ref();
    let limits = limits.map(|limits| plan::limits(limits, report));
    let key = Key {
        name: Some(name.into()),
        account: spec.account.as_deref().unwrap_or(name).into(),
        plan: Arc::clone(plan),
        expires: moment(spec.expires_at.as_ref()),
        disabled: spec.disabled,
        limits,
    };
    let mut declared = Vec::with_capacity(1);
    if let Some((hash, end)) = overlap(spec, report) {
        declared.push(DeclaredKey {
            path: "spec.previousHash",
            hash,
            key: Key {
                expires: Some(key.expires.map_or(end, |expires| expires.min(end))),
                ..key.clone()
            },
        });
    }
    if let Some(hash) = present(spec, report) {
        declared.push(DeclaredKey {
            path: "spec.hash",
            hash,
            key,
        });
    }
    declared
}

/// The current hash.
fn present(spec: &ApiKeySpec, report: Report<'_>) -> Option<KeyHash> {
    match (spec.hash.as_deref(), &spec.secret) {
        (Some(hash), None) => return Some(parsed(hash)),
        (None, Some(_)) => report("spec.secret", NOT_HASHED.to_owned()),
        (Some(_), Some(_)) | (None, None) => report("spec", HASH_OR_SECRET.to_owned()),
    }
    None
}

/// The previous hash, and when it expires; `None` if there is no rotation or a mistake in it.
fn overlap(spec: &ApiKeySpec, report: Report<'_>) -> Option<(KeyHash, SystemTime)> {
    let end = moment(spec.previous_hash_expires_at.as_ref());
    match (spec.previous_hash.as_deref(), end) {
        (Some(hash), Some(_)) if Some(hash) == spec.hash.as_deref() => {
            report("spec.previousHash", SAME_HASH.to_owned());
            None
        }
        (Some(hash), Some(end)) => Some((parsed(hash), end)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            report("spec", HALF_A_ROTATION.to_owned());
            None
        }
    }
}

fn parsed(hash: &str) -> KeyHash {
    KeyHash::parse(hash).expect("the hash should match the schema's pattern")
}

fn moment(declared: Option<&Time>) -> Option<SystemTime> {
    Some(SystemTime::from(declared?.0))
}
