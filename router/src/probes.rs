//! `/healthz` says that the process answers; `/readyz` says whether it can serve, and on the metrics port what is
//! missing until then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::place::{Fleet, Standing};
use inferyard_catalog::{Catalog, Model, Stopped};

/// How old an answer about models may be.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What must be there for a router to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// A ready worker for every model of which workers are wanted.
    EveryModel,
    /// `?any`: a ready worker for one model, so that a model in trouble does not take the healthy ones
    /// out of a load balancer.
    AnyModel,
    /// `?router`: the router itself. It knows what is declared, and says of what is not there yet that it
    /// is loading: in a cluster that is better than no answer.
    Router,
}

/// The last answer about models: a caller in a loop does not make the router look more often than that.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Ready)>>);

/// Models with a ready worker.
#[derive(Clone, Copy)]
struct Ready {
    every_model: bool,
    any_model: bool,
}

/// What `/readyz` says on the metrics port.
#[derive(Serialize)]
struct Details<'a> {
    status: &'static str,
    /// Models with a ready worker.
    ready: Vec<&'a str>,
    /// Models without one.
    missing: Vec<Missing<'a>>,
    /// Namespaces that cannot be read: nothing that is declared there is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<Unread<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

#[derive(Serialize)]
struct Missing<'a> {
    model: &'a str,
    message: String,
    workers: Vec<WorkerReadiness>,
}

#[derive(Serialize)]
struct Unread<'a> {
    namespace: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct WorkerReadiness {
    address: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serves: Option<String>,
}

/// The process answers.
pub(crate) fn live() -> Bytes {
    Bytes::from_static(b"{\"status\":\"ok\"}")
}

/// 200 when what is needed is there, else 503; of models and workers it tells nothing, because strangers may ask.
pub(crate) fn verdict(app: &App, needed: Needed) -> (StatusCode, Bytes) {
    let readiness = app.readiness.look(app);
    let ready = match needed {
        Needed::EveryModel => readiness.every_model,
        Needed::AnyModel => readiness.any_model,
        Needed::Router => true,
    };
    if ready && !app.catalog().pending && app.standstill().is_none() {
        (
            StatusCode::OK,
            Bytes::from_static(b"{\"status\":\"ready\"}"),
        )
    } else {
        let body = Bytes::from_static(b"{\"status\":\"not_ready\"}");
        (StatusCode::SERVICE_UNAVAILABLE, body)
    }
}

/// The same with every model, and the workers of those that are not ready: for the metrics port.
pub(crate) fn details(app: &App, needed: Needed) -> (StatusCode, Bytes) {
    let (catalog, fleet) = (app.catalog(), &app.fleet);
    let mut ready = Vec::new();
    let mut missing = Vec::new();
    for model in wanted(&catalog) {
        match missing_workers(fleet, model) {
            None => ready.push(&*model.id),
            Some(model) => missing.push(model),
        }
    }
    let complete = match needed {
        Needed::EveryModel => missing.is_empty() && !ready.is_empty(),
        Needed::AnyModel => !ready.is_empty(),
        Needed::Router => true,
    };
    let standstill = app.standstill();
    let message = if standstill.is_some() {
        standstill
    } else if catalog.pending {
        Some("The router does not know yet what is declared.")
    } else if catalog.models.is_empty() {
        Some("No models are declared.")
    } else {
        None
    };
    let unread = catalog.unread.iter();
    let unread = unread.map(|(namespace, message)| Unread { namespace, message });
    let serves = complete && !catalog.pending && standstill.is_none();
    let details = Details {
        status: if serves { "ready" } else { "not_ready" },
        ready,
        missing,
        unread: unread.collect(),
        message,
    };
    let status = if serves {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_vec(&details).expect("text and numbers should serialize");
    (status, body.into())
}

// === impl Readiness ===

impl Readiness {
    fn look(&self, app: &App) -> Ready {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((looked, ready)) = *last
            && looked.elapsed() < LOOK_AGAIN
        {
            return ready;
        }
        let catalog = app.catalog();
        let is_ready = |model: &Model| {
            let crew = app.fleet.crew(&model.id);
            crew.is_some_and(|crew| crew.is_ready())
        };
        let any_model = wanted(&catalog).any(is_ready);
        let ready = Ready {
            every_model: any_model && wanted(&catalog).all(is_ready),
            any_model,
        };
        *last = Some((Instant::now(), ready));
        ready
    }
}

// === impl Needed ===

impl Needed {
    /// What the query of a probe asks for.
    pub(crate) fn asked(uri: &http::Uri) -> Self {
        match uri.query() {
            Some("any") => Self::AnyModel,
            Some("router") => Self::Router,
            _ => Self::EveryModel,
        }
    }
}

/// The models that should be served: one that is scaled to 0 is not missing.
fn wanted(catalog: &Catalog) -> impl Iterator<Item = &Model> {
    let models = catalog.models.values().map(|model| &**model);
    models.filter(|model| model.halt() != Some(&Stopped::ScaledToZero))
}

/// What the workers of a model are doing, unless one is ready.
fn missing_workers<'a>(fleet: &Fleet, model: &'a Model) -> Option<Missing<'a>> {
    let standings = fleet.crew(&model.id).map(|crew| crew.standings());
    let workers: Vec<_> = standings
        .into_iter()
        .flatten()
        .map(|(worker, standing)| describe(worker.endpoint().to_string(), standing))
        .collect();
    if workers.iter().any(|worker| worker.state == "ready") {
        return None;
    }
    let progress = workers.iter().filter_map(|worker| worker.progress);
    let message = match progress.max_by(f32::total_cmp) {
        Some(progress) => format!("loading, {:.0} % done", progress * 100.0),
        None => match model.halt() {
            Some(Stopped::Refused { reason }) => format!("its declaration is refused: {reason}"),
            _ if workers.is_empty() => "no workers are declared".to_owned(),
            _ => "no worker is ready".to_owned(),
        },
    };
    Some(Missing {
        model: &model.id,
        message,
        workers,
    })
}

fn describe(address: String, standing: Standing) -> WorkerReadiness {
    let (state, progress, serves) = match standing {
        // It serves, and gets requests where no other worker takes them: no reason to take a router away.
        Standing::Ready | Standing::Ejected => ("ready", None, None),
        Standing::Unhealthy => ("unhealthy", None, None),
        Standing::Loading { progress } => ("loading", Some(progress), None),
        Standing::Draining => ("draining", None, None),
        Standing::OtherModel { serves } => ("other_model", None, Some(serves)),
        Standing::Unreachable => ("unreachable", None, None),
    };
    WorkerReadiness {
        address,
        state,
        progress,
        serves,
    }
}
