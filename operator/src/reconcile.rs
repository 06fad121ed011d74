//! From a declaration to what runs and what is said of it: the table of contents.

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

use crate::apply::{self, Applied, ApplyError, MANAGER, Settled};
use crate::build;
use crate::claims::{Claims, Standing};
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

/// How often progress is looked at and written.
const PROGRESS: Duration = Duration::from_secs(10);
/// A reconcile that takes longer makes room for other models, and is tried again.
const LONGEST: Duration = Duration::from_mins(1);
/// How soon something is tried again that the API server refused: a quota may have grown.
const REFUSED: Duration = Duration::from_mins(1);
/// How long the API server may fail to take something before the status says so. Less than the pause before the
/// second try, so that it is said then at the latest.
const PASSING: Duration = Duration::from_secs(4);

/// What a reconcile needs beside the declaration.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Arc<Config>,
    pub(crate) claims: Arc<Claims>,
    pub(crate) caches: Caches,
    pub(crate) settled: Settled,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Memory,
}

/// Why a reconcile did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// What was built could not be applied now.
    #[error("{0}")]
    Apply(String),
    /// The status could not be written.
    #[error("cannot write the status: {0}")]
    WriteStatus(#[source] kube::Error),
    /// All of it together took too long.
    #[error("it was not done within {0:?}")]
    TookTooLong(Duration),
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
        Ok(resource) => match context
            .claims
            .standing(&resource.namespace().unwrap_or_default())
        {
            Standing::Ours => {
                within(LONGEST, carry_out(&Arc::new(resource.clone()), &context)).await
            }
            // The decision makes it be reconciled again.
            Standing::Undecided => Ok(Action::await_change()),
            Standing::Theirs(release) => {
                leave(resource, &context, &release).await;
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
    done.unwrap_or(Err(ReconcileError::TookTooLong(limit)))
}

/// Says once that another release looks after the model. Nothing is written into its status, which is that of
/// the other one.
async fn leave(resource: &ModelDeployment, context: &Context, release: &str) {
    if context.memory.leaves(resource, release) {
        let own = &context.config.release;
        context.events.left(resource, own, release).await;
    }
}

async fn carry_out(
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
        let wanted = build::build(model);
        scale_down::mark_least_busy(client, &found, wanted.replicas).await;
        let release = &context.config.release;
        let settled = &context.settled;
        match apply::apply(client, release, &found, &wanted, settled, &mut applied).await {
            Ok(()) => {}
            Err(ApplyError::Refused(refusal)) => accepted = Err(refusal),
            Err(ApplyError::Failed(why)) => failed = Some(why),
        }
        template = Some(wanted.template);
    }
    context.events.applied(resource, &applied).await;
    let memory = &context.memory;
    let outcome = match (&accepted, &failed) {
        (Ok(model), None) => Outcome::Applied(model),
        (Err(refusal), _) if found.taken.as_ref().is_some_and(|taken| taken.all) => {
            Outcome::Nameless(refusal)
        }
        (Err(refusal), _) => Outcome::Refused(refusal),
        (Ok(_), Some(why)) if memory.failed(resource, began).elapsed() < PASSING => {
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

/// Writes the status if it says something new, and then the event that goes with it.
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
        // It is gone, or another one has its name by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        Err(error) => return Err(ReconcileError::WriteStatus(error)),
        Ok(_) => context.memory.written(resource),
    }
    if let Some(ready) = status::ready(status) {
        let before = before.and_then(status::ready);
        let before = before.map(|before| before.reason.as_str());
        if context.memory.tells(resource, before, &ready.reason) {
            context.events.ready(resource, ready).await;
        }
    }
    Ok(())
}

/// When to look again, if nothing happens. What workers say is not watched: while one loads, it is asked.
fn next(status: &ModelDeploymentStatus) -> Action {
    let ready = status::ready(status).map(|ready| ready.reason.as_str());
    let is = |reason: Reason| ready == Some(reason.as_str());
    if is(Reason::AllReady) || is(Reason::ScaledToZero) {
        Action::requeue(Duration::from_hours(1))
    } else if is(Reason::Refused) || is(Reason::Invalid) || is(Reason::NameTaken) {
        Action::requeue(REFUSED)
    } else {
        Action::requeue(PROGRESS)
    }
}

// === impl Context ===

impl Context {
    /// When this reconcile began. Counts how long its change has waited.
    fn dequeue(&self, resource: &DeserializeGuard<ModelDeployment>) -> Instant {
        let namespace = resource.namespace().unwrap_or_default();
        if let Some(since) = self.memory.dequeue(namespace, resource.name_any()) {
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
        let last = self.memory.last_written(resource);
        last.is_some_and(|last| last.elapsed() < PROGRESS)
            && without_progress(before) == without_progress(status)
    }

    /// Forgets a model that is gone.
    pub(crate) fn forget(&self, resource: &DeserializeGuard<ModelDeployment>) {
        let (namespace, name) = (
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        self.settled.forget(&namespace, &names::child_name(&name));
        self.memory.forget(&namespace, &name);
    }

    /// Forgets all models that are gone, also those whose end was not seen.
    pub(crate) fn sweep(&self) {
        let models = self.caches.models.state();
        let all: HashSet<_> = (models.iter())
            .map(|model| (model.namespace().unwrap_or_default(), model.name_any()))
            .collect();
        let exists =
            |namespace: &str, name: &str| all.contains(&(namespace.to_owned(), name.to_owned()));
        self.memory.keep(exists);
        self.settled.keep(|namespace, child| {
            names::owner_name(child).is_some_and(|model| exists(namespace, model))
        });
    }
}
