//! The status of plans, in tables.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn platform() -> Platform {
    Platform::new(vec!["inferyard".to_owned()])
}

/// A Plan or an ApiKey, `age` seconds old at the end of 2023.
pub(crate) fn resource<K: DeserializeOwned>(
    kind: &str,
    namespace: &str,
    name: &str,
    age: i64,
    spec: &Value,
) -> K {
    let created = Timestamp::from_second(1_704_067_200 - age).unwrap();
    let resource = json!({
        "apiVersion": inferyard_crds::API_VERSION, "kind": kind,
        "metadata": {
            "namespace": namespace, "name": name, "generation": 1,
            "creationTimestamp": created.to_string(),
        },
        "spec": spec,
    });
    serde_json::from_value(resource).unwrap()
}

pub(crate) fn plan(namespace: &str, name: &str, age: i64, spec: &Value) -> Plan {
    resource("Plan", namespace, name, age, spec)
}

fn model(namespace: &str, name: &str) -> ModelDeployment {
    let model = json!({
        "apiVersion": inferyard_crds::API_VERSION, "kind": "ModelDeployment",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "model": { "source": { "builtin": { "name": "demo" } }, "aliases": [format!("{name}-alias")] } },
    });
    serde_json::from_value(model).unwrap()
}

/// Status, reason and message of the one condition.
fn said(plans: &[Plan], which: usize) -> (String, String, String) {
    let models = [model("inferyard", "own"), model("team-a", "secret")];
    let plans: Vec<_> = plans.iter().collect();
    let platform = platform();
    let checked = Plans::new(&platform, &plans, &models);
    let status = checked.status(plans[which], Timestamp::UNIX_EPOCH);
    let [condition] = &status.conditions[..] else {
        unreachable!("one condition: {status:?}");
    };
    let text = |text: &String| text.clone();
    (
        text(&condition.status),
        text(&condition.reason),
        text(&condition.message),
    )
}

/// Namespace, spec, reason, and words of the message.
fn check(table: &[(&str, Value, &str, &str)]) {
    for (namespace, spec, reason, words) in table {
        let (status, found, message) = said(&[plan(namespace, "p", 1, spec)], 0);
        assert_eq!(found, *reason, "{namespace} {spec}: {message}");
        assert_eq!(status == "True", *reason == "Valid");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_plan_of_the_platform_is_accepted_if_its_models_are_there() {
    check(&[
        (
            "inferyard",
            json!({ "models": ["own", "own-alias"] }),
            "Valid",
            "",
        ),
        (
            "inferyard",
            json!({ "models": ["own", "secret"] }),
            "NotFound",
            "no ModelDeployment that it reaches serves secret",
        ),
        (
            "inferyard",
            json!({ "models": ["owns", "other"] }),
            "NotFound",
            "serves owns (did you mean own?), other",
        ),
        (
            "inferyard",
            json!({ "models": ["secret"], "namespaceSelector": { "any": true } }),
            "Valid",
            "",
        ),
        (
            "inferyard",
            json!({ "models": ["secret-alias"], "namespaceSelector": { "matchNames": ["team-a"] } }),
            "Valid",
            "",
        ),
        (
            "inferyard",
            json!({ "priority": 1000, "preview": {}, "price": { "perMillionTokens": "0" } }),
            "Valid",
            "",
        ),
    ]);
}

#[test]
fn a_plan_elsewhere_is_accepted_if_it_grants_nothing_beyond_its_namespace() {
    check(&[
        ("team-a", json!({ "models": ["secret"] }), "Valid", ""),
        (
            "team-b",
            json!({ "models": ["secret"] }),
            "NotFound",
            "secret",
        ),
        (
            "team-b",
            json!({ "priority": 1 }),
            "NotAllowed",
            "spec.priority 1",
        ),
        (
            "team-b",
            json!({ "preview": {} }),
            "NotAllowed",
            "spec.preview",
        ),
        (
            "team-b",
            json!({ "price": { "perMillionTokens": "0" } }),
            "NotAllowed",
            "spec.price.perMillionTokens",
        ),
        (
            "team-b",
            json!({ "models": ["secret"], "namespaceSelector": { "any": true } }),
            "NotAllowed",
            "spec.namespaceSelector",
        ),
    ]);
}

#[test]
fn of_two_previews_the_older_is_open_and_the_other_says_so() {
    let open = json!({ "preview": {} });
    let plans = [
        plan("inferyard", "young", 1, &open),
        plan("inferyard", "old", 2, &open),
        // It is not allowed, so it does not block the preview of another plan.
        plan("team-b", "ancient", 9, &open),
    ];
    let reasons: Vec<_> = (0..3).map(|which| said(&plans, which).1).collect();
    assert_eq!(reasons, ["NameTaken", "Valid", "NotAllowed"]);
    let message = said(&plans, 0).2;
    assert!(
        message.contains("the older Plan inferyard/old is open"),
        "{message}"
    );
}
