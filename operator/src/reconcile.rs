//! From a declaration to what runs and what is said of it: the table of contents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inferyard_crds::{ModelDeployment, ModelDeploymentStatus, Reason};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::apply::{self, Applied, ApplyError, MANAGER, Settled};
use crate::build;
use crate::config::Config;
use crate::dereference::{self, Caches};
use crate::events;
use crate::metrics::Metrics;
use crate::observe;
use crate::scale_down;
use crate::status;
use crate::validate;

/// How often progress is looked at and written.
const PROGRESS: Duration = Duration::from_secs(10);
/// How soon something is tried again that the API server refused: a quota may have grown.
const REFUSED: Duration = Duration::from_mins(1);

/// What a reconcile needs beside the declaration.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Arc<Config>,
    pub(crate) caches: Caches,
    pub(crate) settled: Settled,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    /// When a status was last written, by uid.
    pub(crate) written: Mutex<HashMap<String, Instant>>,
    /// Since when a change waits, by namespace and name.
    pub(crate) queued: Mutex<HashMap<(String, String), Instant>>,
}

/// Why a reconcile did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// What was built could not be applied now.
    #[error(transparent)]
    Apply(ApplyError),
    /// The status could not be written.
    #[error("cannot write the status: {0}")]
    WriteStatus(#[source] kube::Error),
}

/// One reconcile: what is declared becomes what runs.
pub(crate) async fn reconcile(
    resource: Arc<DeserializeGuard<ModelDeployment>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let began = context.dequeue(&resource);
    let done = match &resource.0 {
        Ok(resource) if resource.metadata.deletion_timestamp.is_some() => {
            // What belongs to it goes with it: the API server follows the owner references.
            Ok(Action::await_change())
        }
        Ok(resource) => carry_out(&Arc::new(resource.clone()), &context).await,
        Err(invalid) => {
            let name = resource.name_any();
            tracing::error!(name, error = %invalid, "a stored ModelDeployment cannot be read");
            Ok(Action::await_change())
        }
    };
    let result = if done.is_ok() { "ok" } else { "error" };
    context.metrics.reconciled("ModelDeployment", result);
    context
        .metrics
        .reconcile_seconds
        .observe(began.elapsed().as_secs_f64());
    done
}

async fn carry_out(
    resource: &Arc<ModelDeployment>,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let client = &context.client;
    context.caches.ready().await;
    let found = dereference::dereference(resource, &context.caches);
    let mut accepted = validate::validate(&found, &context.config);
    let mut applied = None;
    if let Ok(model) = &accepted {
        let wanted = build::build(model);
        scale_down::mark_least_busy(client, &found, wanted.replicas).await;
        match apply::apply(client, &found, &wanted, &context.settled).await {
            Ok(done) => applied = Some(done),
            Err(ApplyError::Refused(refusal)) => accepted = Err(refusal),
            Err(error) => return Err(ReconcileError::Apply(error)),
        }
    }
    let observed = observe::observe(client, &found, applied.as_ref()).await;
    let status = status::status(resource, accepted.as_ref(), &observed, Timestamp::now());
    write(resource, context, applied.as_ref(), &status).await?;
    Ok(next(&status))
}

/// Writes the status if it says something new, and the events that go with it.
async fn write(
    resource: &ModelDeployment,
    context: &Context,
    applied: Option<&Applied>,
    status: &ModelDeploymentStatus,
) -> Result<(), ReconcileError> {
    events::publish(&context.recorder, resource, applied, status).await;
    let before = resource.status.as_ref();
    if before == Some(status)
        || before.is_some_and(|before| context.too_soon(resource, before, status))
    {
        return Ok(());
    }
    let namespace = resource.namespace().unwrap_or_default();
    let api = Api::<ModelDeployment>::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": inferyard_crds::API_VERSION,
        "kind": "ModelDeployment",
        "metadata": { "name": resource.name_any(), "uid": resource.uid() },
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let written = api
        .patch_status(&resource.name_any(), &params, &Patch::Apply(&patch))
        .await;
    match written {
        // It is gone, or another one has its name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(ReconcileError::WriteStatus(error)),
        Ok(_) => {
            let mut written = context
                .written
                .lock()
                .expect("no holder of this lock should panic");
            written.insert(resource.uid().unwrap_or_default(), Instant::now());
            Ok(())
        }
    }
}

/// When to look again, if nothing happens. What workers say is not watched: while one loads, it is asked.
fn next(status: &ModelDeploymentStatus) -> Action {
    let ready = status::ready(status).map(|ready| ready.reason.as_str());
    let is = |reason: Reason| ready == Some(reason.as_str());
    if is(Reason::AllReady) || is(Reason::ScaledToZero) {
        Action::requeue(Duration::from_hours(1))
    } else if is(Reason::Refused) || is(Reason::NameTaken) {
        Action::requeue(REFUSED)
    } else {
        Action::requeue(PROGRESS)
    }
}

// === impl Context ===

impl Context {
    /// A change begins to wait.
    pub(crate) fn enqueue(&self, model: &ObjectRef<DeserializeGuard<ModelDeployment>>) {
        let key = (
            model.namespace.clone().unwrap_or_default(),
            model.name.clone(),
        );
        let mut queued = self
            .queued
            .lock()
            .expect("no holder of this lock should panic");
        queued.entry(key).or_insert_with(Instant::now);
    }

    /// When this reconcile began. Counts how long its change has waited.
    fn dequeue(&self, resource: &DeserializeGuard<ModelDeployment>) -> Instant {
        let key = (
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        let mut queued = self
            .queued
            .lock()
            .expect("no holder of this lock should panic");
        if let Some(since) = queued.remove(&key) {
            self.metrics
                .queue_seconds
                .observe(since.elapsed().as_secs_f64());
        }
        Instant::now()
    }

    /// Whether only the progress is new, and not yet old enough to be written again.
    fn too_soon(
        &self,
        resource: &ModelDeployment,
        before: &ModelDeploymentStatus,
        status: &ModelDeploymentStatus,
    ) -> bool {
        let without_progress = |status: &ModelDeploymentStatus| {
            let mut status = status.clone();
            status.loading = None;
            for condition in &mut status.conditions {
                condition.message.clear();
            }
            status
        };
        let written = self
            .written
            .lock()
            .expect("no holder of this lock should panic");
        let last = written.get(&resource.uid().unwrap_or_default());
        last.is_some_and(|last| last.elapsed() < PROGRESS)
            && without_progress(before) == without_progress(status)
    }

    /// Forgets a model that is gone.
    pub(crate) fn forget(&self, resource: &DeserializeGuard<ModelDeployment>) {
        let (namespace, name) = (
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        self.settled.forget(&namespace, &build::child_name(&name));
        let mut written = self
            .written
            .lock()
            .expect("no holder of this lock should panic");
        written.remove(&resource.uid().unwrap_or_default());
        let mut queued = self
            .queued
            .lock()
            .expect("no holder of this lock should panic");
        queued.remove(&(namespace, name));
    }
}
