//! What is known and what becomes of it.

use std::time::SystemTime;

use inferyard_catalog::{KeyHash, Stopped};
use serde_json::{Value, json};

use super::{
    addresses, hash, key, linked, model, named_model, plan, pod, put, resource, store, with,
};
use crate::link::{Linked, link};
use crate::object::{Kind, Object};

fn only_warning(linked: &Linked) -> &str {
    assert_eq!(linked.warnings.len(), 1, "{:?}", linked.warnings);
    linked.warnings.first().unwrap()
}

#[test]
fn workers_are_the_running_pods_of_declared_models() {
    let linked = linked([
        model("a", 2),
        model("b", 1),
        pod("a-0", "a", "10.0.0.1"),
        pod("a-1", "a", "fd00::1"),
        pod("stray", "nobody", "10.0.0.3"),
        with(
            pod("pending", "b", "10.0.0.4"),
            "/status/phase",
            json!("Pending"),
        ),
        with(
            pod("leaving", "b", "10.0.0.5"),
            "/metadata/deletionTimestamp",
            json!("2024-01-01T00:00:00Z"),
        ),
        with(pod("without-ip", "b", ""), "/status/podIP", Value::Null),
    ]);
    let workers = [
        ("a", vec!["10.0.0.1:50051".into(), "[fd00::1]:50051".into()]),
        ("b", vec![]),
    ];
    assert_eq!(addresses(&linked.catalog), workers.into());
    assert_eq!(linked.catalog.models["a"].created, 1_704_067_198);
    assert!(linked.warnings.is_empty(), "{:?}", linked.warnings);
}

#[test]
fn pods_serve_models_of_their_own_namespace() {
    let elsewhere = with(pod("p", "a", "10.0.0.1"), "/metadata/namespace", json!("m"));
    let linked = linked([model("a", 1), elsewhere]);
    assert_eq!(addresses(&linked.catalog), [("a", vec![])].into());
}

#[test]
fn the_oldest_model_has_the_name() {
    let linked = linked([
        named_model("young", 1, &json!({"name": "org/m"})),
        named_model("old", 3, &json!({"name": "org/m", "aliases": ["gpt"]})),
        named_model("middle", 2, &json!({"aliases": ["gpt", "own"]})),
        pod("young-0", "young", "10.0.0.1"),
        pod("old-0", "old", "10.0.0.2"),
    ]);
    let workers = [("middle", vec![]), ("org/m", vec!["10.0.0.2:50051".into()])];
    assert_eq!(addresses(&linked.catalog), workers.into());
    let names = &linked.catalog.names["n"];
    let names: Vec<_> = names.iter().map(|(name, id)| (&**name, &**id)).collect();
    let expected = [
        ("gpt", "org/m"),
        ("middle", "middle"),
        ("org/m", "org/m"),
        ("own", "middle"),
    ];
    assert_eq!(names, expected);
    let taken = Stopped::Refused {
        reason: "NameTaken".into(),
    };
    let stopped = |id| linked.catalog.models[id].stopped.as_ref();
    assert_eq!((stopped("middle"), stopped("org/m")), (Some(&taken), None));
    let warnings: Vec<_> = linked.warnings.iter().map(String::as_str).collect();
    assert_eq!(
        warnings,
        [
            "ModelDeployment n/middle: spec.model.aliases: the name \"gpt\" is taken by \
             the older ModelDeployment n/old; the alias is left out",
            "ModelDeployment n/young: spec.model.name: the name \"org/m\" is taken by the older \
             ModelDeployment n/old; this one is not served under it",
        ]
    );
}

#[test]
fn keys_are_on_their_plans_and_refused_without_one() {
    let linked = linked([
        named_model("m", 9, &json!({"aliases": ["gpt"]})),
        plan(
            "gold",
            8,
            &json!({"models": ["gpt", "none"], "priority": 7}),
        ),
        key("good", 7, "gold", '1'),
        key("lost", 6, "bronze", '2'),
        key("copied", 5, "gold", '1'),
    ]);
    let catalog = &linked.catalog;
    assert_eq!(catalog.keys.len(), 1);
    let good = &catalog.keys[&KeyHash::parse(&hash('1')).unwrap()];
    assert_eq!(
        (good.name.as_deref().unwrap(), &*good.account),
        ("good", "good")
    );
    assert_eq!(good.plan, catalog.plans["gold"]);
    assert_eq!(good.plan.models.as_deref(), Some(&["m".into()][..]));
    assert_eq!(good.plan.priority, 7);
    let warnings: Vec<_> = linked.warnings.iter().map(String::as_str).collect();
    assert_eq!(
        warnings,
        [
            "ApiKey n/copied: spec.hash: the ApiKey n/good has the same hash and comes first; this one \
             is left out",
            "ApiKey n/lost: spec.plan: there is no Plan named \"bronze\"; the key is refused",
            "Plan n/gold: spec.models: no ModelDeployment serves a model named \"none\"",
        ]
    );
}

#[test]
fn a_rotated_key_works_under_both_hashes() {
    let spec = json!({
        "plan": "p", "hash": hash('a'),
        "previousHash": hash('b'), "previousHashExpiresAt": "2030-01-01T00:00:00Z",
    });
    let linked = linked([
        plan("p", 1, &json!({})),
        resource("ApiKey", "n", "k", 1, &spec),
    ]);
    let key = |digit| &linked.catalog.keys[&KeyHash::parse(&hash(digit)).unwrap()];
    assert_eq!(key('a').expires, None);
    assert!(key('b').expires.unwrap() > SystemTime::UNIX_EPOCH);
}

#[test]
fn a_broken_plan_keeps_its_last_good_version_and_a_new_one_is_left_out() {
    let mut store = store();
    assert!(put(&mut store, plan("p", 1, &json!({"priority": 1}))));
    assert!(!put(&mut store, plan("p", 1, &json!({"priority": 1}))));
    let broken = json!({"priority": 5000, "limits": {"requestsPerMinute": -1}});
    assert!(put(&mut store, plan("p", 1, &broken)));
    // Said once: the same again is no news.
    assert!(!put(&mut store, plan("p", 1, &broken)));
    assert!(put(&mut store, plan("q", 1, &broken)));
    let broken = link(&store);
    assert_eq!(broken.catalog.plans["p"].priority, 1);
    assert!(!broken.catalog.plans.contains_key("q"));
    let warnings: Vec<_> = broken.warnings.iter().collect();
    assert!(
        warnings[0].starts_with("Plan n/p: spec.priority: expected a whole number from -1000")
            && warnings[0].contains("; spec.limits.requestsPerMinute: expected")
            && warnings[0].ends_with("; the last valid version stays in force"),
        "{warnings:?}"
    );
    assert!(warnings[1].ends_with("; it is not used"), "{warnings:?}");

    // Mended, whether to what it was or to something new.
    assert!(put(&mut store, plan("p", 1, &json!({"priority": 1}))));
    assert!(put(&mut store, plan("q", 1, &json!({"priority": 3}))));
    let mended = link(&store);
    assert_eq!(mended.catalog.plans["q"].priority, 3);
    assert!(mended.warnings.is_empty());

    // Another object of the same name has no last good version.
    let other = with(
        plan("p", 1, &json!({"priority": 5000})),
        "/metadata/uid",
        json!("other"),
    );
    assert!(put(&mut store, other));
    assert!(!link(&store).catalog.plans.contains_key("p"));
}

#[test]
fn rules_that_no_schema_states_are_kept_too() {
    for (spec, message) in [
        (
            json!({"price": {"perMillionInputTokens": "1"}}),
            "spec.price: expected perMillionTokens, or both",
        ),
        (
            json!({"limits": {"budgetPerMonth": "0.00"}}),
            "spec.limits.budgetPerMonth: expected more than 0 dollars",
        ),
    ] {
        let linked = linked([plan("p", 1, &spec)]);
        let warning = only_warning(&linked);
        assert!(warning.contains(message), "{warning}");
        assert!(linked.catalog.plans.is_empty());
    }
}

#[test]
fn a_broken_key_is_refused_whatever_it_was_before() {
    let mut store = store();
    put(&mut store, plan("p", 1, &json!({})));
    put(&mut store, key("k", 1, "p", '1'));
    assert_eq!(link(&store).catalog.keys.len(), 1);
    let broken = with(key("k", 1, "p", '1'), "/spec/limits", json!("none"));
    put(&mut store, with(broken, "/spec/disabled", json!(true)));
    let linked = link(&store);
    assert!(linked.catalog.keys.is_empty());
    assert!(only_warning(&linked).ends_with("; the key is refused"));
}

#[test]
fn fields_of_a_newer_version_are_no_mistakes() {
    let linked = linked([plan("p", 1, &json!({"priority": 2, "colour": "green"}))]);
    assert_eq!(linked.catalog.plans["p"].priority, 2);
    assert!(linked.warnings.is_empty());
}

#[test]
fn one_plan_is_open_to_callers_without_a_key() {
    let open = json!({"preview": {}});
    let linked = linked([plan("young", 1, &open), plan("old", 2, &open)]);
    let plans = &linked.catalog.plans;
    assert!(plans["old"].preview.is_some() && plans["young"].preview.is_none());
    assert!(only_warning(&linked).starts_with("Plan n/young: spec.preview: the older Plan n/old"));
}

#[test]
fn a_list_replaces_what_was_known_of_its_namespace_alone() {
    let object = |namespace: &str, name: &str| {
        let plan = resource("Plan", namespace, name, 1, &json!({}));
        Object::from_resource(Kind::Plans, serde_json::from_value(plan).unwrap())
    };
    let mut store = store();
    for (namespace, name) in [("a", "gone"), ("a", "stays"), ("b", "other")] {
        store.upsert(Kind::Plans, object(namespace, name));
    }
    assert!(store.replace(Kind::Plans, Some("a"), vec![object("a", "stays")]));
    assert!(!store.replace(Kind::Plans, Some("a"), vec![object("a", "stays")]));
    let left: Vec<_> = store
        .entries(Kind::Plans)
        .map(|(id, _)| id.to_string())
        .collect();
    assert_eq!(left, ["a/stays", "b/other"]);
    assert!(store.replace(Kind::Plans, None, vec![]));
    assert_eq!(store.entries(Kind::Plans).count(), 0);
}

#[test]
fn a_key_in_a_secret_waits_for_the_operator() {
    let mut in_a_secret = key("k", 1, "basic", 'a');
    in_a_secret["spec"] = json!({"plan": "basic", "secret": {"name": "s", "key": "token"}});
    let waiting = linked([plan("basic", 1, &json!({})), in_a_secret.clone()]);
    assert!(waiting.catalog.keys.is_empty());
    assert!(
        only_warning(&waiting).contains("only the operator of a cluster makes one of a Secret")
    );

    in_a_secret["status"] = json!({"hash": hash('a')});
    let read = linked([plan("basic", 1, &json!({})), in_a_secret]);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let made = KeyHash::parse(&hash('a')).unwrap();
    assert!(read.catalog.keys.contains_key(&made));

    // Of a key that declares a hash, the status says nothing.
    let mut declared = key("k", 1, "basic", 'a');
    declared["status"] = json!({"hash": hash('b')});
    let declared = linked([plan("basic", 1, &json!({})), declared]);
    assert!(declared.catalog.keys.contains_key(&made));
}
