//! Makes the cluster what was built: what differs is applied, what is no longer wanted goes last.
//!
//! Server-side apply, with one field manager. What would change nothing is not sent. Whether it would is
//! decided by two comparisons: of a hash of all that is applied, kept as an annotation, which tells that
//! something is to be removed or added; and of every applied field with the live object, which tells that
//! somebody has changed one. Fields that others add are theirs.

mod refusal;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use inferyard_crds::Reason;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::build::{Child, Wanted, digest, overlay_key};
use crate::dereference::Dereferenced;
use crate::kind::Kind;
use crate::validate::Refusal;

/// The one field manager.
pub(crate) const MANAGER: &str = "inferyard-operator";
/// What was applied, as a hash.
const APPLIED: &str = "inferyard.dev/applied";
/// The release whose operator has applied it.
const RELEASE: &str = "inferyard.dev/operator";

/// What an API server writes otherwise than it was sent (a quantity, in its own form) differs for ever. A
/// patch that changed nothing proves it, and is remembered by what differed.
#[derive(Debug, Default)]
pub(crate) struct Settled(Mutex<HashMap<(String, Kind, String), u64>>);

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// What was made, changed or removed, by kind and name, for the events.
    pub(crate) changed: Vec<(Kind, String, Change)>,
    /// The Deployment as it is now, if it was made or changed: the watch may not know it yet.
    pub(crate) deployment: Option<Arc<DynamicObject>>,
}

/// What was done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Changed,
    Deleted,
}

/// Why it was not made so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The API server says that it never will be.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The API server was not reached, or could not do it now.
    #[error("{0}")]
    Failed(String),
}

/// Applies what differs. `applied` has what was done, also if the rest was not.
pub(crate) async fn apply(
    client: &Client,
    release: &str,
    found: &Dereferenced,
    wanted: &Wanted,
    settled: &Settled,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    let namespace = found.resource.namespace().unwrap_or_default();
    let fails = |child: &Child, error: &kube::Error| {
        refusal::read(&found.resource, child.kind, &child.name, error)
    };
    for child in &wanted.children {
        let resource = child.kind.resource();
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
        let live = found.live.get(&child.kind);
        let unseen;
        let live = if let Some(live) = live {
            Some(&**live)
        } else {
            // The watch shows only what has the operator's label: what has it not would be overwritten.
            unseen = api.get_opt(&child.name).await;
            (unseen.as_ref().map_err(|error| fails(child, error))?).as_ref()
        };
        if let Some(live) = live {
            check_owner(found, child, live)?;
        }
        let desired = stamped(&child.object, release);
        if live.is_some_and(|live| settled.is_current(&namespace, child, live, &desired)) {
            continue;
        }
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&desired);
        let patched = api.patch(&child.name, &params, &patch).await;
        let patched = patched.map_err(|error| fails(child, &error))?;
        settled.note(&namespace, child, live, &patched, &desired);
        let change = if live.is_some() {
            Change::Changed
        } else {
            Change::Created
        };
        (applied.changed).push((child.kind, child.name.clone(), change));
        if child.kind == Kind::Deployment {
            applied.deployment = Some(Arc::new(patched));
        }
    }
    delete_orphans(client, found, wanted, &namespace, applied).await
}

/// What was wanted once, and is not any more.
async fn delete_orphans(
    client: &Client,
    found: &Dereferenced,
    wanted: &Wanted,
    namespace: &str,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    for (kind, live) in &found.live {
        let is_wanted = wanted.children.iter().any(|child| child.kind == *kind);
        if is_wanted || !is_owned(found, live) || live.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let api =
            Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind.resource());
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: live.uid(),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let name = live.name_any();
        match api.delete(&name, &params).await {
            Ok(_) => applied.changed.push((*kind, name, Change::Deleted)),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(refusal::read(&found.resource, *kind, &name, &error)),
        }
    }
    Ok(())
}

fn is_owned(found: &Dereferenced, live: &DynamicObject) -> bool {
    let uid = found.resource.uid().unwrap_or_default();
    live.owner_references().iter().any(|owner| owner.uid == uid)
}

/// What somebody else has made is not taken over. What an earlier ModelDeployment of the same name has left
/// is on its way out: the next try finds it gone.
fn check_owner(
    found: &Dereferenced,
    child: &Child,
    live: &DynamicObject,
) -> Result<(), ApplyError> {
    if is_owned(found, live) {
        return Ok(());
    }
    let message = format!(
        "{} {} exists already and belongs to somebody else: rename it, or this ModelDeployment",
        child.kind.as_str(),
        child.name
    );
    Err(ApplyError::Refused(Refusal {
        reason: Reason::Refused,
        message,
    }))
}

/// The object with the hash of itself, and whose it is.
fn stamped(object: &Value, release: &str) -> Value {
    let mut stamped = object.clone();
    stamped["metadata"]["annotations"][APPLIED] = json!(digest(object));
    stamped["metadata"]["annotations"][RELEASE] = json!(release);
    stamped
}

// === impl Settled ===

impl Settled {
    /// Whether applying would change nothing.
    fn is_current(
        &self,
        namespace: &str,
        child: &Child,
        live: &DynamicObject,
        desired: &Value,
    ) -> bool {
        let different = compared(live, desired);
        different.is_empty() || {
            let known = self.0.lock().expect("no holder of this lock should panic");
            let key = (namespace.to_owned(), child.kind, child.name.clone());
            known.get(&key) == Some(&fingerprint(&different))
        }
    }

    /// Remembers what differs for ever.
    fn note(
        &self,
        namespace: &str,
        child: &Child,
        live: Option<&DynamicObject>,
        patched: &DynamicObject,
        desired: &Value,
    ) {
        let different = compared(patched, desired);
        let unchanged =
            live.is_some_and(|live| live.resource_version() == patched.resource_version());
        let key = (namespace.to_owned(), child.kind, child.name.clone());
        let mut known = self.0.lock().expect("no holder of this lock should panic");
        if different.is_empty() {
            known.remove(&key);
        } else if unchanged || live.is_none() {
            known.insert(key, fingerprint(&different));
        }
    }

    /// Forgets a model that is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        let mut known = self.0.lock().expect("no holder of this lock should panic");
        known.retain(|(of, _, child), _| of != namespace || child != name);
    }

    /// Forgets all that is not to be kept, by namespace and name.
    pub(crate) fn keep(&self, keep: impl Fn(&str, &str) -> bool) {
        let mut known = self.0.lock().expect("no holder of this lock should panic");
        known.retain(|(namespace, _, child), _| keep(namespace, child));
    }
}

fn fingerprint(different: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    different.hash(&mut hasher);
    hasher.finish()
}

/// What differs between two objects of one kind; those in a list do not say which it is.
fn compared(live: &DynamicObject, desired: &Value) -> Vec<String> {
    let mut live = serde_json::to_value(live).unwrap_or_default();
    for field in ["apiVersion", "kind"] {
        live[field] = desired[field].clone();
    }
    let mut found = Vec::new();
    differences(&live, desired, "", &mut found);
    found
}

/// The applied fields that the live object has otherwise, with what it has.
fn differences(live: &Value, wanted: &Value, path: &str, found: &mut Vec<String>) {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (name, wanted) in wanted {
                let place = format!("{path}.{name}");
                match live.get(name) {
                    Some(live) => differences_of(name, live, wanted, &place, found),
                    // An empty list or object may be left out when it is stored.
                    None if is_empty(wanted) => {}
                    None => found.push(format!("{place} {wanted}")),
                }
            }
        }
        (live, wanted) if live == wanted => {}
        (Value::Null, wanted) if is_empty(wanted) => {}
        (live, wanted) => found.push(format!("{path} {live} {wanted}")),
    }
}

fn differences_of(name: &str, live: &Value, wanted: &Value, path: &str, found: &mut Vec<String>) {
    let (Value::Array(items), Value::Array(wanted_items)) = (live, wanted) else {
        return differences(live, wanted, path, found);
    };
    let keyed =
        overlay_key(name).filter(|key| wanted_items.iter().all(|item| item.get(key).is_some()));
    match keyed {
        Some(key) => {
            for item in wanted_items {
                let place = format!("{path}[{}]", item[key]);
                match items.iter().find(|live| live[key] == item[key]) {
                    Some(live) => differences(live, item, &place, found),
                    None => found.push(place),
                }
            }
        }
        None if items.len() != wanted_items.len() => found.push(format!("{path} {live}")),
        None => {
            for (index, (live, wanted)) in items.iter().zip(wanted_items).enumerate() {
                differences(live, wanted, &format!("{path}[{index}]"), found);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
