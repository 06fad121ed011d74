//! Tests: objects are linked into catalogs, and the watcher runs against API servers that fail.

mod api;
mod cluster;
mod faults;
mod linked;
mod renamed;
mod tenants;
mod watched;

use std::collections::BTreeMap;

use inferyard_catalog::Catalog;
use inferyard_crds::Platform;
use serde_json::{Value, json};

use crate::link::{Linked, link};
use crate::object::{Kind, Object};
use crate::store::Store;

/// Nothing yet, of a cluster whose platform is the namespace `n`.
fn store() -> Store {
    Store::new(Platform::new(vec!["n".to_owned()]))
}

fn put(store: &mut Store, object: Value) -> bool {
    let kind = match object["kind"].as_str().unwrap() {
        "ModelDeployment" => Kind::Models,
        "Plan" => Kind::Plans,
        "ApiKey" => Kind::Keys,
        _ => Kind::Workers,
    };
    store.upsert(
        kind,
        Object::from_resource(kind, serde_json::from_value(object).unwrap()),
    )
}

fn linked(objects: impl IntoIterator<Item = Value>) -> Linked {
    let mut store = store();
    for object in objects {
        put(&mut store, object);
    }
    link(&store)
}

/// A hash of a key, one for each digit.
fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A resource of ours as a cluster has it, `age` seconds old at the end of 2023.
fn resource(kind: &str, namespace: &str, name: &str, age: u32, spec: &Value) -> Value {
    let moment = 1_704_067_200 - i64::from(age);
    let created = k8s_openapi::jiff::Timestamp::from_second(moment).unwrap();
    json!({
        "apiVersion": "inferyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "namespace": namespace, "name": name, "uid": format!("{kind}/{namespace}/{name}"),
            "creationTimestamp": created.to_string(),
        },
        "spec": spec,
    })
}

fn model(name: &str, age: u32) -> Value {
    named_model(name, age, &json!({}))
}

/// A model with more in `spec.model`: what a newer version of the API might have is no obstacle.
fn named_model(name: &str, age: u32, names: &Value) -> Value {
    let mut model = json!({"source": {"telepathy": {"from": "mars"}}});
    let fields = names.as_object().unwrap().clone();
    model.as_object_mut().unwrap().extend(fields);
    resource("ModelDeployment", "n", name, age, &json!({"model": model}))
}

fn plan(name: &str, age: u32, spec: &Value) -> Value {
    resource("Plan", "n", name, age, spec)
}

fn key(name: &str, age: u32, plan: &str, digit: char) -> Value {
    let spec = json!({"plan": plan, "hash": hash(digit)});
    resource("ApiKey", "n", name, age, &spec)
}

/// A pod that runs the worker of a model.
fn pod(name: &str, model: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": "n", "name": name, "uid": name,
            "creationTimestamp": "2024-01-01T00:00:00Z",
            "labels": {
                "app.kubernetes.io/name": "inferyard-worker",
                "inferyard.dev/model-deployment": model,
            },
        },
        "spec": {"containers": []},
        "status": {"phase": "Running", "podIP": ip},
    })
}

/// The same with one field changed.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

/// Where the workers of each model are.
fn addresses(catalog: &Catalog) -> BTreeMap<&str, Vec<String>> {
    let models = catalog.models.iter();
    models
        .map(|(name, model)| {
            let workers = model.workers.iter().map(ToString::to_string);
            (&**name, workers.collect())
        })
        .collect()
}
