//! `GET /v1/models` and `GET /v1/models/{id}`: what the caller's plan may use.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::authenticate::Caller;
use crate::catalog::Model;
use crate::error::AcceptError;

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

/// All models and aliases of the caller, by name.
pub(crate) fn list(caller: &Caller, owner: &str) -> Bytes {
    let catalog = &caller.catalog;
    let aliases = catalog
        .aliases
        .iter()
        .filter_map(|(alias, name)| Some((alias, catalog.models.get(name)?)));
    let models = (catalog.models.iter()).filter(|(name, _)| !catalog.aliases.contains_key(*name));
    let mut data: Vec<_> = models
        .chain(aliases)
        .filter(|(_, model)| may_use(caller, model))
        .map(|(id, model)| entry(id, model, owner))
        .collect();
    data.sort_unstable_by_key(|entry| entry.id);
    let object = "list";
    json(&List { object, data })
}

/// One model of the caller; another's is as unknown as one that does not exist.
pub(crate) fn one(caller: &Caller, id: &str, owner: &str) -> Result<Bytes, AcceptError> {
    match caller.catalog.model(id) {
        Some(model) if may_use(caller, model) => Ok(json(&entry(id, model, owner))),
        _ => Err(AcceptError::UnknownModel { id: id.to_owned() }),
    }
}

fn may_use(caller: &Caller, model: &Arc<Model>) -> bool {
    let allowed = caller.key.plan.models.as_ref();
    allowed.is_none_or(|names| names.contains(&model.name))
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
