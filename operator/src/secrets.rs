//! Reads the Secrets of ApiKeys by name: those of new and changed keys at once, and all of them at an interval.
//!
//! Secrets are not watched, because the permission to watch them is the permission to read all of them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use inferyard_crds::{ApiKey, Reason, SecretKey};
use inferyard_keys::KeyHash;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, timeout_at};

use crate::dereference::id;

/// Interval at which all Secrets are read again. Together with the time for reading them it limits how long a key works
/// after its Secret was deleted: two minutes.
pub(crate) const REREAD: Duration = Duration::from_mins(1);
/// Number of Secrets that are read at the same time.
const CONCURRENCY: usize = 16;
/// Time limit for reading one Secret.
const ONE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for reading all Secrets. A Secret that was not read by then counts as unreadable now.
const ALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit of the text of a key in bytes. A longer text is something else.
const MAX_KEY_BYTES: usize = 512;

/// The contents of the Secrets as last read, by namespace and name of the key.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<(String, String), Known>);

#[derive(Debug)]
struct Known {
    /// The version of the ApiKey that referred to the Secret.
    uid: Option<String>,
    generation: Option<i64>,
    found: Found,
}

/// The content of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A key with this hash.
    Key(String),
    /// No key. A key that was there before is revoked.
    NoKey(Reason, String),
    /// The Secret cannot be read now. This revokes nothing.
    Unread(String),
}

// === impl Secrets ===

impl Secrets {
    /// Reads the Secrets of new and changed keys, or with `all` those of all keys.
    pub(crate) async fn read(&mut self, client: &Client, keys: &[&ApiKey], all: bool) {
        let there: HashSet<_> = keys.iter().map(|key| id(*key)).collect();
        self.0.retain(|id, _| there.contains(id));
        let due = keys.iter().filter(|key| all || !self.is_current(key));
        let due = due.filter_map(|key| Some((*key, key.spec.secret.as_ref()?)));
        let end = Instant::now() + ALL_TIMEOUT;
        let reading = due.map(|(key, from)| async move {
            let within = end.min(Instant::now() + ONE_TIMEOUT);
            let namespace = key.namespace().unwrap_or_default();
            let read = timeout_at(within, found(client, &namespace, from)).await;
            let late =
                || Found::Unread("the API server did not give the Secret in time".to_owned());
            (key, read.unwrap_or_else(|_| late()))
        });
        let read: Vec<_> = stream::iter(reading.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (key, found) in read {
            let known = Known {
                uid: key.uid(),
                generation: key.metadata.generation,
                found,
            };
            self.0.insert(id(key), known);
        }
    }

    /// The content of the Secret of a key. None: the key refers to no Secret.
    pub(crate) fn of(&self, key: &ApiKey) -> Option<Found> {
        key.spec.secret.as_ref()?;
        let known = self.0.get(&id(key)).filter(|_| self.is_current(key));
        let unread = || Found::Unread("the Secret was not read yet".to_owned());
        Some(known.map_or_else(unread, |known| known.found.clone()))
    }

    fn is_current(&self, key: &ApiKey) -> bool {
        let known = self.0.get(&id(key));
        known.is_some_and(|known| {
            (&known.uid, known.generation) == (&key.uid(), key.metadata.generation)
        })
    }
}

async fn found(client: &Client, namespace: &str, from: &SecretKey) -> Found {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    match secrets.get_opt(&from.name).await {
        Ok(secret) => hashed(secret.as_ref(), from),
        Err(kube::Error::Api(status)) if status.code == 403 => Found::Unread(format!(
            "the operator may not read the Secret {}: allow it to get this one by a Role",
            from.name
        )),
        Err(error) => {
            tracing::warn!(%error, "cannot read a Secret");
            Found::Unread("the Secret cannot be read now".to_owned())
        }
    }
}

/// Hashes the key in a Secret. The text of the key does not leave this function.
fn hashed(secret: Option<&Secret>, from: &SecretKey) -> Found {
    let missing = |what: String| Found::NoKey(Reason::NotFound, format!("spec.secret: {what}"));
    let Some(secret) = secret else {
        return missing(format!("there is no Secret {}", from.name));
    };
    let entry = secret.data.as_ref().and_then(|data| data.get(&from.key));
    let Some(entry) = entry else {
        return missing(format!(
            "the Secret {} has no entry {}",
            from.name, from.key
        ));
    };
    // Files and editors end a text with a newline, but keys have none.
    let text = entry.0.trim_ascii();
    if text.is_empty() || text.len() > MAX_KEY_BYTES {
        let message = format!(
            "spec.secret: expected a key of 1 to {MAX_KEY_BYTES} bytes in the entry {} of {}, found {}",
            from.key,
            from.name,
            text.len()
        );
        return Found::NoKey(Reason::Invalid, message);
    }
    Found::Key(KeyHash::of(text).to_string())
}

#[cfg(test)]
mod tests;
