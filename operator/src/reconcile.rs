//! The steps from a declaration to running workers and a status.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use inferyard_crds::{ModelDeployment, ModelDeploymentStatus, Reason};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::apply::{self, Applied, ApplyError, MANAGER, NoopPatchCache};
use crate::build;
use crate::claims::{Claims, Ownership};
use crate::config::Config;
use crate::dereference::{self, Caches};
use crate::events::Events;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::names;
use crate::observe;
use crate::scale_down;
use crate::status::{self, Outcome};
use crate::validate;

/// Interval at which progress is observed and written.
const PROGRESS: Duration = Duration::from_secs(10);
/// Time limit of a reconcile. It is tried again later, so that it does not block other models.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Time until the next try after a refusal by the API server: a quota may have grown.
const REFUSAL_RETRY: Duration = Duration::from_mins(1);
/// How long the API server may fail to apply an object before the status reports it. This is less than the pause before
/// the second try, so the second failure is reported at the latest.
const TRANSIENT: Duration = Duration::from_secs(4);

/// What a reconcile needs beyond the declaration.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Arc<Config>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) caches: Caches,
    pub(crate) noop_patches: NoopPatchCache,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Memory,
}

/// Why a reconcile failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The desired objects could not be applied now.
    #[error("{0}")]
    Apply(String),
    /// The status could not be written.
    #[error("cannot write the status: {0}")]
    WriteStatus(#[source] kube::Error),
    /// The reconcile exceeded its time limit.
    #[error("the reconcile took longer than {0:?}")]
    TimedOut(Duration),
}

/// Reconciles one model: makes the cluster match its declaration.
pub(crate) async fn reconcile(
    resource: Arc<DeserializeGuard<ModelDeployment>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let began = context.dequeue(&resource);
    let done = match &resource.0 {
        Ok(resource) if resource.metadata.deletion_timestamp.is_some() => {
            // The garbage collector of Kubernetes deletes its objects by their owner references.
            Ok(Action::await_change())
        }
        Ok(resource) => match context
            .claims
            .owner(&resource.namespace().unwrap_or_default())
        {
            Ownership::Ours => {
                within(
                    TIMEOUT,
                    reconcile_spec(&Arc::new(resource.clone()), &context),
                )
                .await
            }
            // The decision triggers another reconcile.
            Ownership::Undecided => Ok(Action::await_change()),
            Ownership::Theirs(release) => {
                report_other_release(resource, &context, &release).await;
                Ok(Action::await_change())
            }
        },
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

async fn within(
    limit: Duration,
    work: impl Future<Output = Result<Action, ReconcileError>>,
) -> Result<Action, ReconcileError> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or(Err(ReconcileError::TimedOut(limit)))
}

/// Publishes one event that another release manages the model. The status belongs to that release.
async fn report_other_release(resource: &ModelDeployment, context: &Context, release: &str) {
    if context.memory.is_new_manager(resource, release) {
        let own = &context.config.release;
        context
            .events
            .managed_elsewhere(resource, own, release)
            .await;
    }
}

async fn reconcile_spec(
    resource: &Arc<ModelDeployment>,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let began = Instant::now();
    let client = &context.client;
    context.caches.ready().await;
    let found = dereference::dereference(resource, &context.caches);
    let mut accepted = validate::validate(&found, &context.config);
    let mut applied = Applied::default();
    let (mut failed, mut template) = (None, None);
    if let Ok(model) = &accepted {
        let desired = build::build(model);
        scale_down::set_deletion_costs(client, &found, desired.replicas).await;
        let release = &context.config.release;
        let cache = &context.noop_patches;
        match apply::apply(client, release, &found, &desired, cache, &mut applied).await {
            Ok(()) => {}
            Err(ApplyError::Refused(refusal)) => accepted = Err(refusal),
            Err(ApplyError::Failed(why)) => failed = Some(why),
        }
        template = Some(desired.template);
    }
    // These events report changes that are made already, so they do not wait for the status: another try would not find
    // the changes again.
    context.events.applied(resource, &applied).await;
    let memory = &context.memory;
    let nameless = (found.name_conflict.as_ref()).is_some_and(|conflict| conflict.all);
    let outcome = match (&accepted, &failed) {
        (Ok(model), None) => Outcome::Applied(model),
        (Err(refusal), _) if nameless => Outcome::Unreachable(refusal),
        (Err(refusal), _) => Outcome::Refused(refusal),
        (Ok(_), Some(why)) if memory.failed(resource, began).elapsed() < TRANSIENT => {
            return Err(ReconcileError::Apply(why.clone()));
        }
        (Ok(model), Some(why)) => Outcome::Failing(model, why),
    };
    if failed.is_none() {
        memory.succeeded(resource);
    }
    let observed = observe::observe(client, &found, &applied, template).await;
    let mut status = status::status(resource, outcome, &observed, Timestamp::now());
    status.managed_by = Some(context.config.release.clone());
    write(resource, context, &status).await?;
    match failed {
        Some(why) => Err(ReconcileError::Apply(why)),
        None => Ok(next(&status)),
    }
}

/// Writes the status if it has changed, and publishes the event of a new reason of `Ready` after it.
async fn write(
    resource: &ModelDeployment,
    context: &Context,
    status: &ModelDeploymentStatus,
) -> Result<(), ReconcileError> {
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
        // The model was deleted, or another one has its name now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        Err(error) => return Err(ReconcileError::WriteStatus(error)),
        Ok(_) => context.memory.written(resource),
    }
    if let Some(ready) = status::ready(status) {
        let before = before.and_then(status::ready);
        let before = before.map(|before| before.reason.as_str());
        if context
            .memory
            .is_new_reason(resource, before, &ready.reason)
        {
            context.events.ready(resource, ready).await;
        }
    }
    Ok(())
}

/// When to reconcile again if nothing changes. Workers are polled while they load, because no watch covers their state.
fn next(status: &ModelDeploymentStatus) -> Action {
    let ready = status::ready(status).map(|ready| ready.reason.as_str());
    let is = |reason: Reason| ready == Some(reason.as_str());
    if is(Reason::AllReady) || is(Reason::ScaledToZero) {
        Action::requeue(Duration::from_hours(1))
    } else if is(Reason::Refused) || is(Reason::Invalid) || is(Reason::NameTaken) {
        Action::requeue(REFUSAL_RETRY)
    } else {
        Action::requeue(PROGRESS)
    }
}

// === impl Context ===

impl Context {
    /// The start time of this reconcile. Records how long its change has waited.
    fn dequeue(&self, resource: &DeserializeGuard<ModelDeployment>) -> Instant {
        let namespace = resource.namespace().unwrap_or_default();
        if let Some(since) = self.memory.dequeue(namespace, resource.name_any()) {
            self.metrics
                .queue_seconds
                .observe(since.elapsed().as_secs_f64());
        }
        Instant::now()
    }

    /// Whether only the progress has changed, and it was written a short time ago.
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
        let last = self.memory.last_written(resource);
        last.is_some_and(|last| last.elapsed() < PROGRESS)
            && without_progress(before) == without_progress(status)
    }

    /// Forgets a deleted model.
    pub(crate) fn forget(&self, resource: &DeserializeGuard<ModelDeployment>) {
        let (namespace, name) = (
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        self.noop_patches
            .forget(&namespace, &names::child_name(&name));
        self.memory.forget(&namespace, &name);
    }

    /// Forgets all deleted models, also those whose deletion no watch has delivered.
    pub(crate) fn sweep(&self) {
        let models = self.caches.models.state();
        let all: HashSet<_> = (models.iter())
            .map(|model| (model.namespace().unwrap_or_default(), model.name_any()))
            .collect();
        let exists =
            |namespace: &str, name: &str| all.contains(&(namespace.to_owned(), name.to_owned()));
        self.memory.keep(exists);
        self.noop_patches.keep(|namespace, child| {
            names::owner_name(child).is_some_and(|model| exists(namespace, model))
        });
    }
}
