//! The Secrets that ApiKeys name: read by name when a key is new or changed, and all of them from time to time.
//!
//! They are not watched: whoever may watch them may read them all.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use inferyard_crds::{ApiKey, Reason, SecretKey};
use inferyard_keys::KeyHash;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, timeout_at};

use crate::dereference::id;

/// How often all of them are read again. With the time for reading them it bounds how long a key works whose Secret
/// is gone: two minutes.
pub(crate) const AGAIN: Duration = Duration::from_mins(1);
/// Secrets that are read at the same time.
const AT_ONCE: usize = 16;
/// An API server that takes longer for one is taken for away.
const ONE_WITHIN: Duration = Duration::from_secs(5);
/// What is not read by then counts as not to be read now, so that the rest does not wait for ever.
const ALL_WITHIN: Duration = Duration::from_secs(30);
/// A key's text is shorter; a longer one is something else, put there by mistake.
const MAX_KEY_BYTES: usize = 512;

/// What was read last, by namespace and name of the key.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<(String, String), Known>);

#[derive(Debug)]
struct Known {
    /// The version of the key that named it.
    uid: Option<String>,
    generation: Option<i64>,
    found: Found,
}

/// What a Secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A key of this hash.
    Key(String),
    /// No key: the one that it held is revoked.
    NoKey(Reason, String),
    /// It cannot be read now, which revokes nothing.
    Unread(String),
}

// === impl Secrets ===

impl Secrets {
    /// Reads the Secrets of keys that are new or changed, or of `all`.
    pub(crate) async fn read(&mut self, client: &Client, keys: &[&ApiKey], all: bool) {
        let there: HashSet<_> = keys.iter().map(|key| id(*key)).collect();
        self.0.retain(|id, _| there.contains(id));
        let due = keys.iter().filter(|key| all || !self.is_current(key));
        let due = due.filter_map(|key| Some((*key, key.spec.secret.as_ref()?)));
        let end = Instant::now() + ALL_WITHIN;
        let reading = due.map(|(key, from)| async move {
            let within = end.min(Instant::now() + ONE_WITHIN);
            let namespace = key.namespace().unwrap_or_default();
            let read = timeout_at(within, found(client, &namespace, from)).await;
            let late =
                || Found::Unread("the API server did not give the Secret in time".to_owned());
            (key, read.unwrap_or_else(|_| late()))
        });
        let read: Vec<_> = stream::iter(reading.collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE)
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

    /// What the Secret of a key holds; `None`: the key names none.
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
            tracing::warn!(%error, "a Secret was not read");
            Found::Unread("the Secret cannot be read now".to_owned())
        }
    }
}

/// The hash of what the Secret holds. Its text goes no further than here.
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
    // Files and editors end a text with a new line; no key does.
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
