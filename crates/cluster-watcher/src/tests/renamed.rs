//! A model with a new name: the one before it is served until the new workers answer.

use serde_json::{Value, json};

use inferyard_catalog::{Catalog, Model, Plan};

use super::{addresses, linked, named_model, plan, pod, with};

/// What a caller of the namespace gets for a name.
fn found<'a>(catalog: &'a Catalog, name: &str) -> &'a Model {
    let mut plan = Plan::unrestricted("p");
    plan.scopes = vec!["n".into()];
    catalog.model(&plan, name).unwrap()
}

/// A pod whose worker serves this name.
fn serving(pod: Value, name: &str, ready: &str) -> Value {
    let conditions = json!([{"type": "Ready", "status": ready}]);
    let pod = with(pod, "/status/conditions", conditions);
    with(
        pod,
        "/metadata/annotations",
        json!({"inferyard.dev/model": name}),
    )
}

fn old(ready: &str) -> Value {
    serving(pod("old-0", "m", "10.0.0.1"), "before", ready)
}

fn new(ready: &str) -> Value {
    serving(pod("new-0", "m", "10.0.0.2"), "after", ready)
}

const OLD: &str = "10.0.0.1:50051";
const NEW: &str = "10.0.0.2:50051";

#[test]
fn old_workers_serve_the_old_name_and_new_ones_the_new_name() {
    let renamed = named_model("m", 1, &json!({"name": "after"}));
    let begun = linked([renamed.clone(), old("True")]);
    let workers = [("after", vec![]), ("before", vec![OLD.into()])];
    assert_eq!(addresses(&begun.catalog), workers.into());
    assert!(begun.warnings.is_empty(), "{:?}", begun.warnings);

    let both = linked([renamed.clone(), old("True"), new("True")]);
    let workers = [("after", vec![NEW.into()]), ("before", vec![OLD.into()])];
    assert_eq!(addresses(&both.catalog), workers.into());

    let leaving = with(
        old("True"),
        "/metadata/deletionTimestamp",
        json!("2024-01-01T00:00:00Z"),
    );
    let done = linked([renamed, leaving, new("True")]);
    assert_eq!(
        addresses(&done.catalog),
        [("after", vec![NEW.into()])].into()
    );
}

#[test]
fn an_alias_leads_to_the_old_workers_until_as_many_new_ones_answer() {
    let spec = json!({"name": "after", "aliases": ["before"]});
    let renamed = || named_model("m", 1, &spec);
    for answers in ["False", "True"] {
        let linked = linked([renamed(), old("True"), new(answers)]);
        let model = found(&linked.catalog, "before");
        let (name, worker) = if answers == "True" {
            ("after", NEW)
        } else {
            ("before", OLD)
        };
        assert_eq!(
            (&*model.name, model.workers[0].to_string().as_str()),
            (name, worker)
        );
        assert!(linked.warnings.is_empty(), "{:?}", linked.warnings);
        // Requests that wait for an old worker, or run there, are not cut off.
        assert_eq!(addresses(&linked.catalog)["before"], [OLD]);
    }
    let second = serving(pod("old-1", "m", "10.0.0.3"), "before", "True");
    let linked = linked([renamed(), old("True"), second, new("True")]);
    let model = found(&linked.catalog, "before");
    assert_eq!((&*model.name, model.workers.len()), ("before", 2));
}

#[test]
fn other_aliases_go_with_the_workers_that_are_there() {
    let spec = json!({"name": "after", "aliases": ["short"]});
    for (answers, name) in [("False", "before"), ("True", "after")] {
        let linked = linked([named_model("m", 1, &spec), old("True"), new(answers)]);
        assert_eq!(&*found(&linked.catalog, "short").name, name);
    }
    // Of workers of several former names the most.
    let more = ["10.0.0.3", "10.0.0.4"];
    let more = more.map(|ip| serving(pod(ip, "m", ip), "earlier", "True"));
    let objects = [named_model("m", 1, &spec), old("True")];
    let twice = linked(objects.into_iter().chain(more)).catalog;
    assert_eq!(&*found(&twice, "short").name, "earlier");
    for (name, workers) in [("before", 1), ("earlier", 2), ("after", 0)] {
        assert_eq!(found(&twice, name).workers.len(), workers, "{name}");
    }
}

#[test]
fn a_model_whose_new_name_is_taken_keeps_its_aliases() {
    let linked = linked([
        named_model("other", 2, &json!({"name": "after"})),
        named_model("m", 1, &json!({"name": "after", "aliases": ["short"]})),
        old("True"),
    ]);
    assert_eq!(&*found(&linked.catalog, "short").name, "before");
}

#[test]
fn a_plan_that_allows_the_new_name_allows_the_old_one_meanwhile() {
    let renamed = named_model("m", 1, &json!({"name": "after", "aliases": ["before"]}));
    for named in ["after", "before"] {
        let plan = plan("p", 1, &json!({"models": [named]}));
        let linked = linked([renamed.clone(), old("True"), plan]);
        let models = linked.catalog.plans["p"].models.clone().unwrap();
        let mut models: Vec<_> = models.iter().map(|name| &**name).collect();
        models.sort_unstable();
        assert_eq!(models, ["after", "before"], "{named}");
        assert!(linked.warnings.is_empty(), "{:?}", linked.warnings);
    }
}

#[test]
fn a_name_that_another_model_declares_is_not_kept() {
    let linked = linked([
        named_model("m", 2, &json!({"name": "after"})),
        named_model("other", 1, &json!({"name": "before"})),
        old("True"),
        pod("other-0", "other", "10.0.0.9"),
    ]);
    let workers = [("after", vec![]), ("before", vec!["10.0.0.9:50051".into()])];
    assert_eq!(addresses(&linked.catalog), workers.into());
}

/// Its new name belongs to another model: the operator leaves its workers as they are.
#[test]
fn a_model_that_may_not_have_its_new_name_keeps_the_old_one() {
    let linked = linked([
        named_model("other", 2, &json!({"name": "after"})),
        named_model("m", 1, &json!({"name": "after"})),
        pod("other-0", "other", "10.0.0.9"),
        old("True"),
    ]);
    let workers = [
        ("after", vec!["10.0.0.9:50051".into()]),
        ("before", vec![OLD.into()]),
    ];
    assert_eq!(addresses(&linked.catalog), workers.into());
}

#[test]
fn a_former_name_is_found_from_other_namespaces_too_behind_what_they_declare() {
    let of = |object, namespace: &str| with(object, "/metadata/namespace", json!(namespace));
    let wide = || plan("wide", 1, &json!({"namespaceSelector": {"any": true}}));
    let renamed = || of(named_model("m", 1, &json!({"name": "after"})), "a");
    let kept = linked([renamed(), of(old("True"), "a"), wide()]);
    let reached = |catalog: &Catalog| {
        let model = catalog.model(&catalog.plans["wide"], "before").unwrap();
        model.id.to_string()
    };
    assert_eq!(reached(&kept.catalog), "before@a");
    let declared = of(named_model("other", 0, &json!({"name": "before"})), "b");
    let both = linked([renamed(), of(old("True"), "a"), declared, wide()]);
    assert_eq!(reached(&both.catalog), "before@b");
}
