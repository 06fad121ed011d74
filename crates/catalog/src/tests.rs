//! A name refers to a model, depending on the plan.

use super::*;

/// `qwen` in the scopes of the platform (`home`) and of `a`, each with an alias; `b` has aliases that are names of
/// models in `a`.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let mut add = |scope: &str, name: &str, names: &[&str]| {
        let model = Model {
            id: format!("{name}@{scope}").into(),
            ..Model::new(name, 0)
        };
        let names = names.iter().map(|&name| name.into());
        catalog.add(&scope.into(), model, names);
    };
    add("home", "qwen", &["qwen", "default"]);
    add("a", "qwen", &["qwen", "default"]);
    add("a", "next", &["next"]);
    add("b", "squat", &["squat", "next", "qwen"]);
    catalog
}

fn plan(scopes: &[&str], models: Option<&[&str]>) -> Plan {
    Plan {
        scopes: scopes.iter().map(|&scope| scope.into()).collect(),
        models: models.map(|ids| ids.iter().map(|&id| id.into()).collect()),
        ..Plan::unrestricted("p")
    }
}

#[test]
fn a_name_means_the_model_of_the_first_scope_that_has_it() {
    let catalog = catalog();
    let table = [
        (&["a"][..], "next", Some("next@a")),
        (&["a"], "qwen", Some("qwen@a")),
        (&["a"], "squat", None),
        (&["b"], "next", Some("squat@b")),
        (&["home", "b", "a"], "qwen", Some("qwen@home")),
        (&["home", "b", "a"], "next", Some("squat@b")),
        (&["home", "a", "b"], "next", Some("next@a")),
        (&["home", "unknown"], "next", None),
        (&[], "qwen", None),
    ];
    for (scopes, name, expected) in table {
        let found = catalog.model(&plan(scopes, None), name);
        assert_eq!(found.map(|model| &*model.id), expected, "{scopes:?} {name}");
    }
}

#[test]
fn what_a_plan_does_not_allow_gives_no_way_to_another_scope() {
    let catalog = catalog();
    let plan = plan(&["home", "a"], Some(&["qwen@a", "next@a"]));
    assert_eq!(catalog.model(&plan, "qwen"), None);
    let reached = catalog.reached(&plan).into_keys();
    let reached: Vec<_> = reached.map(|name| &**name).collect();
    assert_eq!(reached, ["next"]);
}

#[test]
fn what_is_listed_is_what_is_found() {
    let catalog = catalog();
    for scopes in [&["home", "a", "b"][..], &["b", "home"], &["a"], &[]] {
        let plan = plan(scopes, None);
        let reached = catalog.reached(&plan);
        for name in ["qwen", "default", "next", "squat", "none"] {
            let name: Arc<str> = name.into();
            let found = catalog.model(&plan, &name);
            assert_eq!(reached.get(&name).copied(), found, "{scopes:?} {name}");
        }
    }
}

#[test]
fn a_model_stands_still_only_without_workers() {
    let mut model = Model::new("m", 0);
    assert_eq!(model.halt(), None, "workers may come");
    model.stopped = Some(Stopped::ScaledToZero);
    assert_eq!(model.halt(), Some(&Stopped::ScaledToZero));
    model.workers.push(Endpoint::Tcp("10.0.0.1:50051".into()));
    assert_eq!(model.halt(), None);
}
