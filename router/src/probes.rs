//! `/healthz` reports that the process runs; `/readyz` reports whether the router can serve, and on the metrics
//! port also what is missing.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::accept::Needed;
use inferyard_catalog::{Catalog, Model, Stopped};
use inferyard_upstream::{EndpointState, Fleet};

/// How long a result about models is reused.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The last result about models. Reusing it bounds the work that clients which poll in a loop can cause.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Ready)>>);

/// Which models have a ready worker.
#[derive(Clone, Copy)]
struct Ready {
    every_model: bool,
    any_model: bool,
}

/// The body of `/readyz` on the metrics port.
#[derive(Serialize)]
struct Details<'a> {
    status: &'static str,
    /// Models with a ready worker.
    ready: Vec<&'a str>,
    /// Models without a ready worker.
    missing: Vec<Missing<'a>>,
    /// Namespaces that cannot be read, so their resources are unknown.
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

/// The state that a probe reports.
pub(crate) struct Status<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) fleet: &'a Fleet,
    /// Why the router serves no request now, regardless of models and workers.
    pub(crate) standstill: Option<&'static str>,
}

/// The body of `/healthz`.
pub(crate) fn live() -> Bytes {
    Bytes::from_static(b"{\"status\":\"ok\"}")
}

/// 200 if the router is ready for what is needed, else 503. The body names no models or workers, because this
/// port is public.
pub(crate) fn verdict(
    readiness: &Readiness,
    status: &Status<'_>,
    needed: Needed,
) -> (StatusCode, Bytes) {
    let models = readiness.look(status);
    let ready = match needed {
        Needed::EveryModel => models.every_model,
        Needed::AnyModel => models.any_model,
        Needed::Router => true,
    };
    if ready && !status.catalog.pending && status.standstill.is_none() {
        (
            StatusCode::OK,
            Bytes::from_static(b"{\"status\":\"ready\"}"),
        )
    } else {
        let body = Bytes::from_static(b"{\"status\":\"not_ready\"}");
        (StatusCode::SERVICE_UNAVAILABLE, body)
    }
}

/// Like [`verdict`], with all models and the workers of models that are not ready; for the metrics port.
pub(crate) fn details(status: &Status<'_>, needed: Needed) -> (StatusCode, Bytes) {
    let Status {
        catalog,
        fleet,
        standstill,
    } = *status;
    let mut ready = Vec::new();
    let mut missing = Vec::new();
    for model in wanted(catalog) {
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
    fn look(&self, status: &Status<'_>) -> Ready {
        let mut last = self.0.lock();
        if let Some((looked, ready)) = *last
            && looked.elapsed() < LOOK_AGAIN
        {
            return ready;
        }
        let is_ready = |model: &Model| {
            let pool = status.fleet.endpoints(&model.id);
            pool.is_some_and(|pool| pool.is_ready())
        };
        let any_model = wanted(status.catalog).any(is_ready);
        let ready = Ready {
            every_model: any_model && wanted(status.catalog).all(is_ready),
            any_model,
        };
        *last = Some((Instant::now(), ready));
        ready
    }
}

/// Models that should have a ready worker: all except those that are scaled to 0.
fn wanted(catalog: &Catalog) -> impl Iterator<Item = &Model> {
    let models = catalog.models.values().map(|model| &**model);
    models.filter(|model| model.halt() != Some(&Stopped::ScaledToZero))
}

/// The workers of a model and their states; `None`: a worker is ready.
fn missing_workers<'a>(fleet: &Fleet, model: &'a Model) -> Option<Missing<'a>> {
    let states = fleet.endpoints(&model.id).map(|pool| pool.states());
    let workers: Vec<_> = states
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

fn describe(address: String, standing: EndpointState) -> WorkerReadiness {
    let (state, progress, serves) = match standing {
        // An ejected worker still gets requests if no other worker takes them, so it does not make the router
        // unready.
        EndpointState::Ready | EndpointState::Ejected => ("ready", None, None),
        EndpointState::Unhealthy => ("unhealthy", None, None),
        EndpointState::Loading { progress } => ("loading", Some(progress), None),
        EndpointState::Draining => ("draining", None, None),
        EndpointState::OtherModel { serves } => ("other_model", None, Some(serves)),
        EndpointState::Unreachable => ("unreachable", None, None),
    };
    WorkerReadiness {
        address,
        state,
        progress,
        serves,
    }
}
