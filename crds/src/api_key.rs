//! `ApiKey`: an API key on a plan. The resource holds the hash of the key, never the key.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiKeyStatus, Limits, SecretKey};

#[expect(
    clippy::duplicated_attributes,
    reason = "print columns of the same type are not duplicates"
)]
/// An API key that callers send as `Authorization: Bearer …`. The resource holds only the hash of the key.
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
    doc = "An API key that callers send as `Authorization: Bearer …`. The resource holds only the hash of the key.",
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
    /// Name of the Plan of the key, in the namespace of the key. Limit: 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub plan: String,
    /// Account that the key belongs to. Limits and usage are counted for the account. Keys of one account share cached
    /// prompts; keys of different accounts never do. Default: `metadata.name`. Limit: 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub account: Option<String>,
    /// SHA-256 of the key, as 64 lower-case hexadecimal digits. Set either this field or `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::hash::sha256")]
    pub hash: Option<String>,
    /// Entry of a Secret that holds the key. The operator writes the hash of the key into the status. Set either this
    /// field or `hash`. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
    /// SHA-256 of the key before its last rotation, as 64 lower-case hexadecimal digits. The previous key is accepted
    /// until `previousHashExpiresAt`. Set both fields or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::hash::sha256")]
    pub previous_hash: Option<String>,
    /// Time (RFC 3339) from which the previous key is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::moment")]
    pub previous_hash_expires_at: Option<Time>,
    /// Limits of this key alone, in addition to the limits that the plan sets for the account. Default: no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Time (RFC 3339) from which the key is refused. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::moment")]
    pub expires_at: Option<Time>,
    /// Whether the key is refused now. Default: false.
    #[serde(default)]
    pub disabled: bool,
}

/// The message for a rotation with only one of its two fields.
pub const HALF_A_ROTATION: &str =
    "expected previousHash and previousHashExpiresAt together, or neither of them";

/// The message for a rotation to the same key.
pub const SAME_HASH: &str = "expected another hash than the present one";

/// The message for a key with neither or both of a hash and a Secret.
pub const HASH_OR_SECRET: &str =
    "expected exactly one of hash (`inferyard keys create` makes one) and secret";

// === impl ApiKey ===

impl ApiKey {
    /// The hash of the key: the declared one, or the one that the operator computed from the Secret. None: the operator
    /// has not read the Secret yet.
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
    /// The declared hashes: of the key, and of the previous key.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        let hashes = [&self.hash, &self.previous_hash].into_iter().flatten();
        hashes.map(String::as_str)
    }
}
