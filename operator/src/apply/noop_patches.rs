//! Remembers patches that change nothing, so that they are not sent again.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard};

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::drift::diff;
use crate::kind::Kind;

/// Differences that are normalization, not drift. The API server stores some values in a canonical form (the quantity
/// `1000m` as `1`), so live and desired object never compare equal. If a patch changes nothing (the `resourceVersion`
/// stays), the hash of the differences is remembered, and the same differences count as equal from then on.
#[derive(Debug, Default)]
pub(crate) struct NoopPatchCache(Mutex<HashMap<Key, u64>>);

/// Namespace, kind and name of an object.
type Key = (String, Kind, String);

// === impl NoopPatchCache ===

impl NoopPatchCache {
    /// Whether a patch would change nothing.
    pub(super) fn is_current(&self, key: &Key, live: &DynamicObject, desired: &Value) -> bool {
        let differences = diff(live, desired);
        differences.is_empty() || self.lock().get(key) == Some(&hash(&differences))
    }

    /// Records what a patch has changed. `live` is the object before the patch, `patched` after it.
    pub(super) fn record(
        &self,
        key: Key,
        live: Option<&DynamicObject>,
        patched: &DynamicObject,
        desired: &Value,
    ) {
        let differences = diff(patched, desired);
        let unchanged =
            live.is_some_and(|live| live.resource_version() == patched.resource_version());
        if differences.is_empty() {
            self.lock().remove(&key);
        } else if unchanged || live.is_none() {
            self.lock().insert(key, hash(&differences));
        }
    }

    /// Forgets the objects of a deleted model.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.lock()
            .retain(|(of, _, child), _| of != namespace || child != name);
    }

    /// Keeps only objects whose namespace and name fulfil `keep`.
    pub(crate) fn keep(&self, keep: impl Fn(&str, &str) -> bool) {
        self.lock()
            .retain(|(namespace, _, child), _| keep(namespace, child));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.0.lock().expect("no holder of this lock should panic")
    }
}

fn hash(differences: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    differences.hash(&mut hasher);
    hasher.finish()
}
