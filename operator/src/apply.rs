//! Applies the desired objects: objects that differ are patched, and objects that are no longer desired are deleted
//! last.
//!
//! The operator uses server-side apply with one field manager, and sends no patch that would change nothing. Two
//! comparisons decide that. A hash of everything that was applied, kept as an annotation, shows that a field was added
//! or removed. A comparison of each applied field with the live object shows that another client has changed one.
//! Fields that other clients add are left alone.

mod drift;
mod noop_patches;
mod refusal;

pub(crate) use noop_patches::NoopPatchCache;

use std::sync::Arc;

use inferyard_crds::Reason;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::build::{Desired, digest};
use crate::child::Child;
use crate::dereference::Dereferenced;
use crate::kind::Kind;
use crate::validate::Refusal;

/// The field manager of all patches.
pub(crate) const MANAGER: &str = "inferyard-operator";
/// The annotation with the hash of everything that was applied.
const APPLIED: &str = "inferyard.dev/applied";
/// The annotation with the release whose operator has applied the object.
const RELEASE: &str = "inferyard.dev/operator";

/// The changes that were made.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// The changed objects by kind and name, for the events.
    pub(crate) changes: Vec<(Kind, String, Change)>,
    /// The Deployment after its patch, if it was patched: the watch may not have delivered it yet.
    pub(crate) deployment: Option<Arc<DynamicObject>>,
}

/// The change of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Changed,
    Deleted,
}

/// Why the desired objects were not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The API server refuses the object, and would refuse it again.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The API server was not reached, or cannot apply the object now.
    #[error("{0}")]
    Failed(String),
}

/// Applies the objects that differ. `applied` receives the changes, also if an error ends the work early.
pub(crate) async fn apply(
    client: &Client,
    release: &str,
    found: &Dereferenced,
    desired: &Desired,
    noop_patches: &NoopPatchCache,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    let namespace = found.resource.namespace().unwrap_or_default();
    for child in &desired.children {
        let (kind, name) = (child.kind(), &child.name);
        let fails = |error: &kube::Error| refusal::read(&found.resource, kind, name, error);
        let api =
            Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &kind.resource());
        let live = found.live.get(&kind);
        let unwatched;
        let live = if let Some(live) = live {
            Some(&**live)
        } else {
            // The watch delivers only objects with the label of the operator. Others must not be overwritten.
            unwatched = api.get_opt(name).await;
            (unwatched.as_ref().map_err(fails)?).as_ref()
        };
        if let Some(live) = live {
            check_owner(found, child, live)?;
        }
        let object = stamped(child.to_json(), release);
        let key = (namespace.clone(), kind, name.clone());
        if live.is_some_and(|live| noop_patches.is_current(&key, live, &object)) {
            continue;
        }
        let params = PatchParams::apply(MANAGER).force();
        let patched = api.patch(name, &params, &Patch::Apply(&object)).await;
        let patched = patched.map_err(|error| fails(&error))?;
        noop_patches.record(key, live, &patched, &object);
        let change = if live.is_some() {
            Change::Changed
        } else {
            Change::Created
        };
        applied.changes.push((kind, name.clone(), change));
        if kind == Kind::Deployment {
            applied.deployment = Some(Arc::new(patched));
        }
    }
    delete_orphans(client, found, desired, &namespace, applied).await
}

/// Deletes the objects of the model that are no longer desired.
async fn delete_orphans(
    client: &Client,
    found: &Dereferenced,
    desired: &Desired,
    namespace: &str,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    for (kind, live) in &found.live {
        let is_desired = desired.children.iter().any(|child| child.kind() == *kind);
        if is_desired || !is_owned(found, live) || live.metadata.deletion_timestamp.is_some() {
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
            Ok(_) => applied.changes.push((*kind, name, Change::Deleted)),
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

/// Refuses to take over an object without the owner reference of the model. An object of a deleted ModelDeployment of
/// the same name is about to be deleted: a later try finds it gone.
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
        child.kind().as_str(),
        child.name
    );
    Err(ApplyError::Refused(Refusal {
        reason: Reason::Refused,
        message,
    }))
}

/// The object with the annotations of the hash of itself and of the release.
fn stamped(mut object: Value, release: &str) -> Value {
    let digest = digest(&object);
    object["metadata"]["annotations"][APPLIED] = json!(digest);
    object["metadata"]["annotations"][RELEASE] = json!(release);
    object
}

#[cfg(test)]
mod tests;
