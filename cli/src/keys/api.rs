//! The key store behind `/v1/organization/api_keys`, with an admin key.

use std::time::Duration;

use inferyard_keys::{
    KeyFields, KeyHash, KeyLimits, KeyText, Page, ResolveError, StoredKey, dollars, nanodollars,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::issued::Issued;
use crate::admin::{AskError, Service};
use crate::failure::Failure;

/// Path of keys below `/v1/organization`.
const KEYS: &str = "api_keys";

/// The key store of a service.
pub(super) struct Api(Service);

/// A key in a response of the service.
#[derive(Deserialize)]
struct Shown {
    id: String,
    name: String,
    account: String,
    plan: String,
    redacted_value: String,
    created_at: u64,
    expires_at: Option<u64>,
    disabled: bool,
    limits: Option<Limits>,
}

/// The response that has the key's text.
#[derive(Deserialize)]
struct New {
    value: String,
    #[serde(flatten)]
    key: Shown,
}

#[derive(Deserialize)]
struct Listed {
    data: Vec<Shown>,
    has_more: bool,
}

#[derive(Serialize, Deserialize, Default)]
struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_day: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_total: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_per_day: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrent_requests: Option<u64>,
    /// In dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget_per_month: Option<String>,
}

// === impl Api ===

impl Api {
    pub(super) fn new(service: Service) -> Self {
        Self(service)
    }

    pub(super) async fn create(&self, fields: KeyFields) -> Result<Issued, Failure> {
        let body = json!({
            "name": fields.name, "account": fields.account, "plan": fields.plan,
            "expires_at": fields.expires, "limits": Limits::of(fields.limits),
        });
        self.issue(&[KEYS], &body).await
    }

    pub(super) async fn list(
        &self,
        account: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Failure> {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(account.map(|account| ("account", account)));
        query.extend(after.map(|after| ("after", after)));
        let listed: Listed = self.0.get(&[KEYS], &query).await.map_err(failure)?;
        Ok(Page {
            keys: listed.data.into_iter().map(StoredKey::from).collect(),
            more: listed.has_more,
        })
    }

    /// Looks up the id of a key by its name, id, redacted form, hash or text.
    pub(super) async fn resolve(&self, called: &str) -> Result<String, Failure> {
        // The text is a secret, and URLs are written to logs: its hash is sent.
        let called = if KeyText::is_formed_like(called) {
            KeyHash::of(called.as_bytes()).to_string()
        } else {
            called.to_owned()
        };
        let found: Listed = self
            .0
            .get(&[KEYS], &[("called", &called)])
            .await
            .map_err(failure)?;
        let mut ids: Vec<_> = found.data.into_iter().map(|key| key.id).collect();
        match (ids.pop(), ids.is_empty()) {
            (None, _) => Err(ResolveError::Unknown.into()),
            (Some(id), true) => Ok(id),
            (Some(id), false) => {
                ids.push(id);
                Err(ResolveError::Ambiguous(ids).into())
            }
        }
    }

    pub(super) async fn rotate(&self, id: &str, overlap: Duration) -> Result<Issued, Failure> {
        // Rounded up to a second: the old text stays valid for at least as long as requested.
        let seconds = overlap.as_secs() + u64::from(overlap.subsec_nanos() > 0);
        let body = json!({"overlap_seconds": seconds});
        self.issue(&[KEYS, id, "rotate"], &body).await
    }

    /// Revokes a key; `false`: there is no such key.
    pub(super) async fn revoke(&self, id: &str) -> Result<bool, Failure> {
        match self.0.delete::<Value>(&[KEYS, id]).await {
            Ok(_) => Ok(true),
            Err(error) if error.has_code("not_found") => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }

    async fn issue(&self, path: &[&str], body: &Value) -> Result<Issued, Failure> {
        let new = self.0.post::<New>(path, body).await.map_err(|error| {
            if error.leaves_open() {
                return Failure::Failed(anyhow::Error::from(error).context(
                    "whether there is a new text is not known: see `inferyard keys list`, and \
                     revoke a key whose text nobody has seen",
                ));
            }
            failure(error)
        })?;
        Ok(Issued {
            key: new.key.into(),
            text: new.value,
        })
    }
}

/// A service without a key store answers 404 to this path.
fn failure(error: AskError) -> Failure {
    if !error.has_code("unknown_url") {
        return error.into();
    }
    Failure::usage(format!(
        "{error} It has no key store, only keys in manifests: key stores are in Redis, which a \
         service has with --redis"
    ))
}

// === impl Shown ===

impl From<Shown> for StoredKey {
    fn from(shown: Shown) -> Self {
        Self {
            id: shown.id,
            name: shown.name,
            account: shown.account,
            plan: shown.plan,
            created: shown.created_at,
            expires: shown.expires_at,
            disabled: shown.disabled,
            redacted: shown.redacted_value,
            limits: shown.limits.map(Limits::read),
        }
    }
}

// === impl Limits ===

impl Limits {
    fn of(limits: KeyLimits) -> Self {
        Self {
            requests_per_minute: limits.requests_per_minute,
            requests_per_day: limits.requests_per_day,
            requests_total: limits.requests_total,
            tokens_per_minute: limits.tokens_per_minute,
            tokens_per_day: limits.tokens_per_day,
            concurrent_requests: limits.concurrent_requests,
            budget_per_month: limits.budget_nanodollars.map(dollars),
        }
    }

    fn read(self) -> KeyLimits {
        KeyLimits {
            requests_per_minute: self.requests_per_minute,
            requests_per_day: self.requests_per_day,
            requests_total: self.requests_total,
            tokens_per_minute: self.tokens_per_minute,
            tokens_per_day: self.tokens_per_day,
            concurrent_requests: self.concurrent_requests,
            budget_nanodollars: self.budget_per_month.as_deref().and_then(nanodollars),
        }
    }
}
