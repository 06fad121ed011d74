//! What the operator remembers of each model between two reconciles.

use std::collections::HashMap;
use std::sync::Mutex;

use inferyard_crds::ModelDeployment;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::Instant;

/// The namespace and the name of a model.
type Key = (String, String);

/// The memory of all models.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<Key, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    /// The UID of the model. Another model may have its name now.
    uid: Option<String>,
    /// The time since which a change waits for its reconcile.
    queued: Option<Instant>,
    /// The time of the last write of the status.
    written: Option<Instant>,
    /// The start of the first reconcile of the current row of failures.
    failing: Option<Instant>,
    /// The reason of `Ready` in the last event.
    reason: Option<String>,
    /// The other release that the last event named as the manager of the model.
    manager: Option<String>,
}

// === impl Memory ===

impl Memory {
    /// Records that a change waits for its reconcile. A deleted model is ignored: its objects are deleted after it, and
    /// would add it again.
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

    /// The time since which the change has waited whose reconcile starts now.
    pub(crate) fn dequeue(&self, namespace: String, name: String) -> Option<Instant> {
        self.lock().get_mut(&(namespace, name))?.queued.take()
    }

    /// Records that the status was written.
    pub(crate) fn written(&self, model: &ModelDeployment) {
        self.with(model, |entry| entry.written = Some(Instant::now()));
    }

    /// The time of the last write of the status.
    pub(crate) fn last_written(&self, model: &ModelDeployment) -> Option<Instant> {
        self.with(model, |entry| entry.written)
    }

    /// Records a failed reconcile that started at `began`. Returns the start of the first one of the current row of
    /// failures.
    pub(crate) fn failed(&self, model: &ModelDeployment, began: Instant) -> Instant {
        self.with(model, |entry| *entry.failing.get_or_insert(began))
    }

    /// Records a successful reconcile.
    pub(crate) fn succeeded(&self, model: &ModelDeployment) {
        self.with(model, |entry| entry.failing = None);
    }

    /// Records the reason of `Ready` of an event, and returns whether it differs from the one of the last event. For
    /// the first event, `before` is the reason in the status; later the watch may not have delivered the last status
    /// yet.
    pub(crate) fn is_new_reason(
        &self,
        model: &ModelDeployment,
        before: Option<&str>,
        reason: &str,
    ) -> bool {
        self.with(model, |entry| {
            let differs = entry.reason.as_deref().or(before) != Some(reason);
            entry.reason = Some(reason.to_owned());
            differs
        })
    }

    /// Records that another release manages the model, and returns whether it is another one than before.
    pub(crate) fn is_new_manager(&self, model: &ModelDeployment, release: &str) -> bool {
        self.with(model, |entry| {
            let before = entry.manager.replace(release.to_owned());
            before.as_deref() != Some(release)
        })
    }

    /// Forgets a deleted model.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Keeps only models that exist. A watch does not deliver deletions that happened while it was interrupted.
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
    fn a_deleted_model_leaves_nothing_behind() {
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
        // The garbage collector deletes its objects.
        memory.enqueue(&reference, &store);
        assert!(memory.lock().is_empty(), "{memory:?}");
        // A running reconcile ends.
        memory.written(&model);
        memory.keep(|_, _| false);
        assert!(memory.lock().is_empty(), "{memory:?}");
    }

    #[test]
    fn another_model_of_the_same_name_is_another_one() {
        let memory = Memory::default();
        let (first, second) = (model("u-1"), model("u-2"));
        memory.written(&first);
        assert!(memory.is_new_reason(&first, None, "Invalid"));
        assert_eq!(memory.last_written(&second), None);
        assert!(memory.is_new_reason(&second, None, "Invalid"));
    }

    #[test]
    fn a_reason_is_published_once() {
        let memory = Memory::default();
        let model = model("u-1");
        // The watch may show the status before the last one.
        for (before, reason, is_new) in [
            (Some("AllReady"), "AllReady", false),
            (Some("AllReady"), "Loading", true),
            (Some("AllReady"), "Loading", false),
            (Some("Loading"), "AllReady", true),
            (Some("Loading"), "AllReady", false),
        ] {
            assert_eq!(
                memory.is_new_reason(&model, before, reason),
                is_new,
                "{reason}"
            );
        }
    }

    #[test]
    fn failures_in_a_row_have_one_start() {
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
