//! What is remembered of each model between two reconciles.

use std::collections::HashMap;
use std::sync::Mutex;

use inferyard_crds::ModelDeployment;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::Instant;

/// Namespace and name.
type Key = (String, String);

/// What is remembered of each model, by namespace and name.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<Key, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    /// The model that it is about: another one may have its name by now.
    uid: Option<String>,
    /// Since when a change waits.
    queued: Option<Instant>,
    /// When the status was last written.
    written: Option<Instant>,
    /// When the first reconcile began of those that failed in a row.
    failing: Option<Instant>,
    /// The reason of `Ready` that the last event had.
    told: Option<String>,
    /// The other release that an event has told to look after the model.
    left: Option<String>,
}

// === impl Memory ===

impl Memory {
    /// A change begins to wait. A model that is gone has none: what belonged to it goes after it.
    pub(crate) fn enqueue(
        &self,
        model: &ObjectRef<DeserializeGuard<ModelDeployment>>,
        models: &Store<DeserializeGuard<ModelDeployment>>,
    ) {
        if models.get(model).is_none() {
            return;
        }
        let key = (
            model.namespace.clone().unwrap_or_default(),
            model.name.clone(),
        );
        let mut known = self.lock();
        known
            .entry(key)
            .or_default()
            .queued
            .get_or_insert_with(Instant::now);
    }

    /// Since when the change waits that is looked at now.
    pub(crate) fn dequeue(&self, namespace: String, name: String) -> Option<Instant> {
        self.lock().get_mut(&(namespace, name))?.queued.take()
    }

    /// The status was written.
    pub(crate) fn written(&self, model: &ModelDeployment) {
        self.with(model, |entry| entry.written = Some(Instant::now()));
    }

    /// When the status was last written.
    pub(crate) fn last_written(&self, model: &ModelDeployment) -> Option<Instant> {
        self.with(model, |entry| entry.written)
    }

    /// A reconcile that began then has failed. When the first one began of those that failed in a row.
    pub(crate) fn failed(&self, model: &ModelDeployment, began: Instant) -> Instant {
        self.with(model, |entry| *entry.failing.get_or_insert(began))
    }

    /// A reconcile has not failed.
    pub(crate) fn succeeded(&self, model: &ModelDeployment) {
        self.with(model, |entry| entry.failing = None);
    }

    /// An event tells this reason of `Ready`. Whether it differs from `before`, the last one that was told if this
    /// is not the first: the watch may not have the last status yet.
    pub(crate) fn tells(
        &self,
        model: &ModelDeployment,
        before: Option<&str>,
        reason: &str,
    ) -> bool {
        self.with(model, |entry| {
            let differs = entry.told.as_deref().or(before) != Some(reason);
            entry.told = Some(reason.to_owned());
            differs
        })
    }

    /// Another release looks after the model. Whether that is news.
    pub(crate) fn leaves(&self, model: &ModelDeployment, release: &str) -> bool {
        self.with(model, |entry| {
            let left = entry.left.replace(release.to_owned());
            left.as_deref() != Some(release)
        })
    }

    /// Forgets a model that is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Forgets all other models: a deletion that happened while a watch was broken is not seen.
    pub(crate) fn keep(&self, exists: impl Fn(&str, &str) -> bool) {
        self.lock()
            .retain(|(namespace, name), _| exists(namespace, name));
    }

    fn with<T>(&self, model: &ModelDeployment, change: impl FnOnce(&mut Entry) -> T) -> T {
        let key = (model.namespace().unwrap_or_default(), model.name_any());
        let mut known = self.lock();
        let entry = known.entry(key).or_default();
        if entry.uid != model.metadata.uid {
            *entry = Entry {
                uid: model.metadata.uid.clone(),
                queued: entry.queued,
                ..Entry::default()
            };
        }
        change(entry)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().expect("no holder of this lock should panic")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::runtime::{reflector, watcher};
    use serde_json::{Value, json};

    use super::*;

    fn model(uid: &str) -> ModelDeployment {
        let spec = json!({ "model": { "source": { "builtin": { "name": "demo" } } } });
        let mut model = crate::validate::tests::resource(&spec);
        model.metadata.uid = Some(uid.to_owned());
        model
    }

    fn guarded(model: &ModelDeployment) -> DeserializeGuard<ModelDeployment> {
        let value: Value = serde_json::to_value(model).unwrap();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_model_that_is_gone_leaves_nothing_behind() {
        let (store, mut writer) = reflector::store();
        let memory = Memory::default();
        let model = model("u-1");
        let guarded = guarded(&model);
        let reference = ObjectRef::from_obj(&guarded);
        writer.apply_watcher_event(&watcher::Event::Apply(guarded.clone()));
        memory.enqueue(&reference, &store);
        memory.written(&model);
        writer.apply_watcher_event(&watcher::Event::Delete(guarded));
        memory.forget("models", "demo");
        // The garbage collector removes what belonged to it.
        memory.enqueue(&reference, &store);
        assert!(memory.lock().is_empty(), "{memory:?}");
        // A reconcile that was under way ends.
        memory.written(&model);
        memory.keep(|_, _| false);
        assert!(memory.lock().is_empty(), "{memory:?}");
    }

    #[test]
    fn another_model_of_the_name_is_another_one() {
        let memory = Memory::default();
        let (first, second) = (model("u-1"), model("u-2"));
        memory.written(&first);
        assert!(memory.tells(&first, None, "Invalid"));
        assert_eq!(memory.last_written(&second), None);
        assert!(memory.tells(&second, None, "Invalid"));
    }

    #[test]
    fn a_reason_is_told_once() {
        let memory = Memory::default();
        let model = model("u-1");
        // The status that the watch shows may be the one before the last.
        for (before, reason, told) in [
            (Some("AllReady"), "AllReady", false),
            (Some("AllReady"), "Loading", true),
            (Some("AllReady"), "Loading", false),
            (Some("Loading"), "AllReady", true),
            (Some("Loading"), "AllReady", false),
        ] {
            assert_eq!(memory.tells(&model, before, reason), told, "{reason}");
        }
    }

    #[test]
    fn failures_in_a_row_have_one_beginning() {
        let memory = Memory::default();
        let model = model("u-1");
        let first = Instant::now();
        let later = first + Duration::from_secs(5);
        assert_eq!(memory.failed(&model, first), first);
        assert_eq!(memory.failed(&model, later), first);
        memory.succeeded(&model);
        assert_eq!(memory.failed(&model, later), later);
    }
}
