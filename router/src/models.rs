//! `GET /v1/models` and `GET /v1/models/{id}`: the models of the caller's plan.

use bytes::Bytes;
use serde::Serialize;

use crate::accept::AcceptError;
use crate::authenticate::Caller;
use crate::error::Error;
use crate::stopped::StoppedError;
use inferyard_catalog::Model;

/// OpenAI's `list` object.
#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

/// OpenAI's `model` object.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

/// All models and aliases of the caller, by name. Stopped models are omitted, because clients offer this list
/// to users for selection.
pub(crate) fn list(caller: &Caller, owner: &str) -> Bytes {
    let reached = caller.catalog.reached(&caller.key.plan);
    let data = reached
        .iter()
        .filter(|(_, model)| model.halt().is_none())
        .map(|(id, model)| entry(id, model, owner))
        .collect();
    let object = "list";
    json(&List { object, data })
}

/// One model of the caller. A model of another plan is reported as unknown.
pub(crate) fn one(caller: &Caller, id: &str, owner: &str) -> Result<Bytes, Error> {
    let model = caller.catalog.model(&caller.key.plan, id);
    let model = model.ok_or_else(|| AcceptError::UnknownModel { id: id.to_owned() })?;
    StoppedError::check(model, id)?;
    Ok(json(&entry(id, model, owner)))
}

fn entry<'a>(id: &'a str, model: &Model, owner: &'a str) -> Entry<'a> {
    Entry {
        id,
        object: "model",
        created: model.created,
        owned_by: owner,
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("text and numbers should serialize")
        .into()
}
