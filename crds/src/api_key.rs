//! `ApiKey`: who may call, on which plan. The key itself is never here, only its hash.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiKeyStatus, Limits, SecretKey};

#[expect(
    clippy::duplicated_attributes,
    reason = "print columns of the same type are not duplicates"
)]
/// A key that callers send as `Authorization: Bearer …`. Only its hash is kept.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "inferyard.dev",
    version = "v1alpha1",
    kind = "ApiKey",
    plural = "apikeys",
    category = "inferyard",
    namespaced,
    status = "ApiKeyStatus",
    derive = "PartialEq",
    doc = "A key that callers send as `Authorization: Bearer …`. Only its hash is kept.",
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan"),
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.account"),
    printcolumn(name = "Expires", type_ = "date", json_path = ".spec.expiresAt"),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.previousHash) == has(self.previousHashExpiresAt)",
        "message": HALF_A_ROTATION,
    },
    {
        "rule": "!has(self.previousHash) || !has(self.hash) || self.previousHash != self.hash",
        "message": SAME_HASH,
        "fieldPath": ".previousHash",
    },
    {
        "rule": "has(self.hash) != has(self.secret)",
        "message": HASH_OR_SECRET,
    },
]))]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// Name of the `Plan` that it is on.
    #[schemars(length(min = 1, max = 253))]
    pub plan: String,
    /// The account that it belongs to; absent: the name of the key. Keys of one account share cached
    /// prompts, keys of different accounts never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub account: Option<String>,
    /// SHA-256 of the key's text, as 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::hash::sha256")]
    pub hash: Option<String>,
    /// Instead of the hash: the Secret that holds the key's text. The operator hashes it into the status.
    /// Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
    /// SHA-256 of the text that the key had before it was rotated, which goes on working until
    /// `previousHashExpiresAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::hash::sha256")]
    pub previous_hash: Option<String>,
    /// From this moment on the text before the rotation is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::moment")]
    pub previous_hash_expires_at: Option<Time>,
    /// How much this key alone may use of what the plan grants to its account; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// From this moment on the key is refused; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::moment")]
    pub expires_at: Option<Time>,
    /// Refuses the key at once, without deleting it.
    #[serde(default)]
    pub disabled: bool,
}

/// What a rotation without its other half is told.
pub const HALF_A_ROTATION: &str =
    "expected previousHash and previousHashExpiresAt together, or neither of them";

/// What a rotation to the same text is told.
pub const SAME_HASH: &str = "expected another hash than the present one";

/// What a key with no hash, or with two, is told.
pub const HASH_OR_SECRET: &str =
    "expected exactly one of hash (`inferyard keys create` makes one) and secret";

// === impl ApiKey ===

impl ApiKey {
    /// The hash that routers compare with: the declared one, or the one that the operator made of the
    /// Secret. None: the operator has not read the Secret yet.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        let made = || {
            self.spec
                .secret
                .as_ref()
                .and(self.status.as_ref()?.hash.as_deref())
        };
        self.spec.hash.as_deref().or_else(made)
    }
}

impl ApiKeySpec {
    /// The hashes that callers' keys are compared with, as far as they are declared here.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        let hashes = [&self.hash, &self.previous_hash].into_iter().flatten();
        hashes.map(String::as_str)
    }
}
