//! A platform in the namespace `n`, and tenants who may edit `a` and `b`: what each can reach, and what he cannot.

use inferyard_catalog::{Catalog, Key, KeyHash, Plan, Stopped};
use serde_json::{Value, json};

use super::{addresses, hash, linked, named_model, plan, pod, put, resource, store, with};
use crate::link::{Linked, link};

/// The same in another namespace.
fn of(namespace: &str, object: Value) -> Value {
    with(object, "/metadata/namespace", json!(namespace))
}

fn tenants_plan(namespace: &str, spec: &Value) -> Value {
    resource("Plan", namespace, "p", 1, spec)
}

fn tenants_key(namespace: &str, age: u32, digit: char) -> Value {
    let spec = json!({"plan": "p", "hash": hash(digit), "account": "team"});
    resource("ApiKey", namespace, "k", age, &spec)
}

fn key(catalog: &Catalog, digit: char) -> Option<&Key> {
    let hash = KeyHash::parse(&hash(digit)).unwrap();
    catalog.keys.get(&hash).map(|key| &**key)
}

/// What a caller on this plan gets for a name.
fn found<'a>(catalog: &'a Catalog, plan: &Plan, name: &str) -> Option<&'a str> {
    catalog.model(plan, name).map(|model| &*model.id)
}

/// A model of the platform and of each tenant, all called `m`; `squat` of `b` has the alias `next` that `a` gives to a
/// model later; `p` in each namespace, and a key on it.
fn cluster() -> Vec<Value> {
    let mut objects = vec![
        named_model("m", 5, &json!({})),
        of("a", named_model("m", 6, &json!({}))),
        of("b", named_model("m", 7, &json!({}))),
        of("a", named_model("secret", 9, &json!({}))),
        of("a", named_model("next", 1, &json!({}))),
        of("b", named_model("squat", 9, &json!({"aliases": ["next"]}))),
        of("b", pod("m-0", "m", "10.0.0.2")),
        of("a", pod("m-0", "m", "10.0.0.1")),
    ];
    for (namespace, digit) in [("n", '0'), ("a", '1'), ("b", '2')] {
        objects.push(tenants_plan(namespace, &json!({})));
        objects.push(tenants_key(namespace, 1, digit));
    }
    objects
}

#[test]
fn a_key_reaches_the_models_of_its_own_namespace() {
    let catalog = linked(cluster()).catalog;
    let table = [
        ('0', "m", Some("m")),
        ('0', "secret", None),
        ('0', "next", None),
        ('1', "m", Some("m@a")),
        ('1', "secret", Some("secret@a")),
        // What is older in another namespace captures nobody.
        ('1', "next", Some("next@a")),
        ('2', "m", Some("m@b")),
        ('2', "secret", None),
        ('2', "next", Some("squat@b")),
        ('2', "m@a", None),
    ];
    for (digit, name, expected) in table {
        let plan = &key(&catalog, digit).unwrap().plan;
        assert_eq!(found(&catalog, plan, name), expected, "{digit} {name}");
    }
    let workers = addresses(&catalog);
    assert_eq!(workers["m@a"], ["10.0.0.1:50051"]);
    assert_eq!(workers["m@b"], ["10.0.0.2:50051"]);
    assert!(workers["m"].is_empty());
    assert_eq!(&*catalog.models["m@a"].name, "m", "what its workers say");
}

#[test]
fn a_plan_of_the_platform_reaches_what_it_selects() {
    let reaches = |selector: Value, name: &str| {
        let mut objects = cluster();
        let spec = json!({"namespaceSelector": selector});
        objects.push(plan("wide", 1, &spec));
        let catalog = linked(objects).catalog;
        let plan = &catalog.plans["wide"];
        found(&catalog, plan, name).map(str::to_owned)
    };
    let table = [
        (json!({"any": true}), "m", Some("m")),
        (json!({"any": true}), "secret", Some("secret@a")),
        // Nothing tells whose it is meant to be: the oldest has it, unless the plan names the namespaces.
        (json!({"any": true}), "next", Some("squat@b")),
        (json!({"matchNames": ["a", "b"]}), "next", Some("next@a")),
        (json!({"matchNames": ["b", "a"]}), "next", Some("squat@b")),
        (json!({"matchNames": ["a"]}), "m", Some("m")),
        (json!({"matchNames": ["a"]}), "squat", None),
        (json!({"matchNames": ["elsewhere"]}), "secret", None),
        (json!({"matchNames": []}), "secret", None),
        (json!({"any": false}), "secret", None),
    ];
    for (selector, name, expected) in table {
        let found = reaches(selector.clone(), name);
        assert_eq!(found.as_deref(), expected, "{selector} {name}");
    }
}

#[test]
fn models_that_a_plan_names_are_those_that_it_reaches() {
    let spec = json!({"models": ["m", "secret"]});
    let mut objects = cluster();
    objects.push(plan("narrow", 1, &spec));
    let wide = json!({"models": ["m", "secret"], "namespaceSelector": {"any": true}});
    objects.push(plan("wide", 1, &wide));
    let linked = linked(objects);
    let models = |plan: &str| {
        let models = linked.catalog.plans[plan].models.iter().flatten();
        models.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(models("narrow"), ["m"]);
    assert_eq!(models("wide"), ["m", "secret@a"]);
    let warning = "Plan n/narrow: spec.models: no ModelDeployment serves a model named \"secret\"";
    assert!(linked.warnings.contains(warning), "{:?}", linked.warnings);
}

#[test]
fn what_only_the_platform_may_grant_makes_a_plan_of_no_use() {
    for spec in [
        json!({"priority": 1000}),
        json!({"price": {"perMillionTokens": "0"}}),
        json!({"preview": {}}),
        json!({"namespaceSelector": {"any": true}}),
        json!({"namespaceSelector": {"matchNames": ["a"]}}),
    ] {
        let objects = [tenants_plan("b", &spec), tenants_key("b", 1, '2')];
        let Linked {
            catalog, warnings, ..
        } = linked(objects);
        assert!(
            catalog.keys.is_empty() && catalog.plans.is_empty(),
            "{spec}"
        );
        let refused: Vec<_> = catalog.keys_without_plan.values().collect();
        assert_eq!(refused.len(), 1, "{spec}");
        assert!(refused[0].is_refused && &*refused[0].plan == "p");
        let told = |start: &str, end: &str| {
            let mut all = warnings.iter();
            all.any(|told| told.starts_with(start) && told.ends_with(end))
        };
        assert!(
            told("Plan b/p: spec.", "; the plan is not used"),
            "{warnings:?}"
        );
        let key = "ApiKey b/k: spec.plan: the Plan \"p\" is refused; the key is refused";
        assert!(told(key, key), "{warnings:?}");

        let of_the_platform = linked([tenants_plan("n", &spec), tenants_key("n", 1, '2')]);
        assert!(of_the_platform.warnings.is_empty(), "{spec}");
        assert_eq!(of_the_platform.catalog.keys.len(), 1, "{spec}");
    }
}

#[test]
fn a_plan_that_is_mended_is_used_again_and_one_that_is_broken_is_not() {
    let mut store = store();
    put(&mut store, tenants_key("b", 1, '2'));
    for (priority, keys) in [(0, 1), (7, 0), (-7, 1)] {
        put(
            &mut store,
            tenants_plan("b", &json!({"priority": priority})),
        );
        let catalog = link(&store).catalog;
        assert_eq!(catalog.keys.len(), keys, "{priority}");
        assert_eq!(catalog.keys_without_plan.len(), 1 - keys, "{priority}");
    }
}

#[test]
fn accounts_of_tenants_are_their_own() {
    let catalog = linked(cluster()).catalog;
    for (digit, account, name, plan) in [
        ('0', "team", "k", "p"),
        ('1', "a/team", "a/k", "a/p"),
        ('2', "b/team", "b/k", "b/p"),
    ] {
        let key = key(&catalog, digit).unwrap();
        let called = (&*key.account, key.name.as_deref().unwrap(), &*key.plan.name);
        assert_eq!(called, (account, name, plan));
    }
}

#[test]
fn stored_keys_and_the_preview_are_on_plans_of_the_platform() {
    let mut objects = cluster();
    objects.push(plan("free", 1, &json!({"preview": {}})));
    let catalog = linked(objects).catalog;
    let plans: Vec<_> = catalog.plans.keys().map(|name| &**name).collect();
    assert_eq!(plans, ["free", "n/free", "n/p", "p"]);
    assert_eq!(catalog.plans["p"], catalog.plans["n/p"]);
}

#[test]
fn the_hash_of_a_key_belongs_to_the_platform_then_to_the_oldest() {
    let table = [
        (("n", 1), ("b", 9), "k"),
        (("a", 5), ("b", 4), "a/k"),
        (("b", 5), ("a", 4), "b/k"),
    ];
    for ((first, first_age), (second, second_age), owner) in table {
        let Linked {
            catalog, warnings, ..
        } = linked([
            tenants_plan(first, &json!({})),
            tenants_plan(second, &json!({})),
            tenants_key(first, first_age, '7'),
            tenants_key(second, second_age, '7'),
        ]);
        assert_eq!(key(&catalog, '7').unwrap().name.as_deref(), Some(owner));
        let told = format!("ApiKey {second}/k: spec.hash: the ApiKey {first}/k has the same hash");
        let mut all = warnings.iter();
        assert!(all.any(|one| one.starts_with(&told)), "{warnings:?}");
    }
}

/// A tenant who puts a hash that he has read somewhere into an older key of his.
#[test]
fn a_key_that_has_its_hash_does_not_lose_it_to_an_older_one() {
    let has = |mut key: Value| {
        key["status"] = json!({"hashes": [hash('7')]});
        key
    };
    let table = [
        (
            has(tenants_key("b", 1, '7')),
            tenants_key("a", 9, '7'),
            "b/k",
        ),
        (tenants_key("b", 1, '7'), tenants_key("a", 9, '7'), "a/k"),
        // The platform goes before tenants.
        (has(tenants_key("b", 9, '7')), tenants_key("n", 1, '7'), "k"),
        (has(tenants_key("n", 1, '7')), tenants_key("n", 9, '7'), "k"),
    ];
    for (one, other, owner) in table {
        let plans = ["a", "b", "n"].map(|namespace| tenants_plan(namespace, &json!({})));
        let catalog = linked(plans.into_iter().chain([one, other])).catalog;
        assert_eq!(key(&catalog, '7').unwrap().name.as_deref(), Some(owner));
    }
}

#[test]
fn a_model_without_workers_says_why() {
    let zero = json!({"scaling": {"replicas": 0}});
    let refused = |generation: u64| {
        let mut model = named_model("m", 1, &json!({}));
        model["metadata"]["generation"] = json!(generation);
        model["status"] = json!({"observedGeneration": 3, "conditions": [
            {"type": "Ready", "status": "False", "reason": "Loading"},
            {"type": "Accepted", "status": "False", "reason": "Invalid"},
        ]});
        model
    };
    let stopped = |model: Value| linked([model]).catalog.models["m"].stopped.clone();
    let invalid = Stopped::Refused {
        reason: "Invalid".into(),
    };
    assert_eq!(stopped(named_model("m", 1, &json!({}))), None);
    let mut scaled = named_model("m", 1, &json!({}));
    scaled["spec"]["scaling"] = zero["scaling"].clone();
    assert_eq!(stopped(scaled), Some(Stopped::ScaledToZero));
    assert_eq!(stopped(refused(3)), Some(invalid));
    // What is said of a version before tells nothing of this one.
    assert_eq!(stopped(refused(4)), None);
}

#[test]
fn a_model_that_is_being_deleted_gives_its_name_away() {
    let leaving = with(
        named_model("old", 9, &json!({"name": "m"})),
        "/metadata/deletionTimestamp",
        json!("2024-01-01T00:00:00Z"),
    );
    let alone = linked([leaving.clone(), pod("old-0", "old", "10.0.0.1")]);
    assert_eq!(addresses(&alone.catalog)["m"], ["10.0.0.1:50051"]);
    let both = linked([
        leaving,
        named_model("young", 1, &json!({"name": "m"})),
        pod("old-0", "old", "10.0.0.1"),
        pod("young-0", "young", "10.0.0.2"),
    ]);
    assert_eq!(addresses(&both.catalog)["m"], ["10.0.0.2:50051"]);
}

#[test]
fn an_alias_of_a_model_whose_name_is_taken_says_so() {
    let models = || {
        vec![
            named_model("old", 9, &json!({"name": "m"})),
            named_model("young", 1, &json!({"name": "m", "aliases": ["own"]})),
        ]
    };
    let alone = linked(models()).catalog;
    let taken = Stopped::Refused {
        reason: "NameTaken".into(),
    };
    assert_eq!(alone.models["own"].halt(), Some(&taken));
    // A worker from before serves what is left of its names.
    let mut running = models();
    running.push(pod("young-0", "young", "10.0.0.2"));
    let catalog = linked(running).catalog;
    let model = &catalog.models["own"];
    assert_eq!((model.halt(), &*model.name), (None, "m"));
    assert_eq!(addresses(&catalog)["own"], ["10.0.0.2:50051"]);
    assert!(addresses(&catalog)["m"].is_empty());
}
