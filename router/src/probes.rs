//! `/healthz` says that the process answers; `/readyz` says what is missing before it can serve.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::app::App;
use crate::place::{Fleet, Standing};

/// What must be there for a router to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// A ready worker for every model.
    EveryModel,
    /// `?any`: a ready worker for one model, so that a model in trouble does not take the healthy ones
    /// out of a load balancer.
    AnyModel,
    /// `?router`: the router itself. It knows what is declared, and says of what is not there yet that it
    /// is loading: in a cluster that is better than no answer.
    Router,
}

/// What `/readyz` says.
#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    /// Models with a ready worker.
    ready: Vec<&'a str>,
    /// Models without one.
    missing: Vec<Missing<'a>>,
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

/// 200 when what is needed is there, else 503.
pub(crate) fn ready(app: &App, needed: Needed) -> (StatusCode, Bytes) {
    let (catalog, fleet) = (app.catalog(), &app.fleet);
    let mut ready = Vec::new();
    let mut missing = Vec::new();
    for name in catalog.models.keys() {
        match missing_workers(fleet, name) {
            None => ready.push(&**name),
            Some(model) => missing.push(model),
        }
    }
    let complete = match needed {
        Needed::EveryModel => missing.is_empty() && !ready.is_empty(),
        Needed::AnyModel => !ready.is_empty(),
        Needed::Router => true,
    };
    let (draining, full) = (app.is_draining(), app.connections.are_full());
    let message = if draining {
        Some("The router is shutting down.")
    } else if full {
        Some("The router has as many connections as it may, and accepts no more until one ends.")
    } else if catalog.pending {
        Some("The router does not know yet what is declared.")
    } else if catalog.models.is_empty() {
        Some("No models are declared.")
    } else {
        None
    };
    let serves = complete && !catalog.pending && !draining && !full;
    let readiness = Readiness {
        status: if serves { "ready" } else { "not_ready" },
        ready,
        missing,
        message,
    };
    let status = if serves {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_vec(&readiness).expect("text and numbers should serialize");
    (status, body.into())
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

/// What the workers of a model are doing, unless one is ready.
fn missing_workers<'a>(fleet: &Fleet, model: &'a str) -> Option<Missing<'a>> {
    let standings = fleet.crew(model).map(|crew| crew.standings());
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
        None if workers.is_empty() => "no workers are declared".to_owned(),
        None => "no worker is ready".to_owned(),
    };
    Some(Missing {
        model,
        message,
        workers,
    })
}

fn describe(address: String, standing: Standing) -> WorkerReadiness {
    let (state, progress, serves) = match standing {
        Standing::Ready => ("ready", None, None),
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
