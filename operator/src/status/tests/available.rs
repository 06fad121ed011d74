//! How many workers have to answer for `Available`.

use serde_json::{Value, json};

use super::*;

/// A model with this number of desired workers, this availability, and this status.
fn model(
    replicas: i32,
    availability: &Value,
    before: Option<&ModelDeploymentStatus>,
) -> ModelDeployment {
    let mut spec = spec(replicas);
    spec["availability"] = availability.clone();
    let mut resource = resource(&spec);
    resource.status = before.cloned();
    resource
}

/// The status of a model with this number of ready workers.
fn with_answering(model: &ModelDeployment, answering: i32) -> ModelDeploymentStatus {
    let spec = serde_json::to_value(&model.spec).unwrap();
    let pods = (0..answering).map(|number| {
        let pod = json!({ "metadata": { "name": number.to_string() }, "status": running("True") });
        Arc::new(serde_json::from_value(pod).unwrap())
    });
    let seen = Observed {
        deployment: Some(deployment(answering, answering)),
        pods: pods.collect(),
        ..Observed::default()
    };
    let validated = validated(&spec).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    status(model, Outcome::Applied(&validated), &seen, now)
}

fn check(found: &ModelDeploymentStatus, is: &str, reason: &str, required: i32) {
    let available = of(found, "Available");
    assert_eq!(
        (
            available.status.as_str(),
            available.reason.as_str(),
            found.required_replicas
        ),
        (is, reason, required),
        "{}",
        available.message
    );
}

#[test]
fn as_many_workers_answer_as_are_declared() {
    let rows = [
        (1, json!({}), 1),
        (2, json!({}), 1),
        (4, json!({}), 3),
        (4, json!({ "minAvailable": 2 }), 2),
        (4, json!({ "minAvailable": "60%" }), 3),
        (4, json!({ "minAvailable": 9 }), 4),
        (4, json!({ "minAvailable": 0 }), 1),
        (4, json!({ "maxUnavailable": 3 }), 1),
        (4, json!({ "maxUnavailable": "50%" }), 2),
        (4, json!({ "maxUnavailable": "100%" }), 1),
    ];
    for (replicas, availability, required) in rows {
        let model = model(replicas, &availability, None);
        let enough = with_answering(&model, required);
        check(&enough, "True", "EnoughWorkers", required);
        let few = with_answering(&model, required - 1);
        check(&few, "False", "TooFewWorkers", required);
    }
}

#[test]
fn a_stopped_model_has_all_workers_that_it_wants() {
    let stopped = with_answering(&model(0, &json!({}), None), 0);
    check(&stopped, "True", "ScaledToZero", 0);
    // It does not serve before enough of its workers do.
    let started = with_answering(&model(3, &json!({}), Some(&stopped)), 1);
    check(&started, "False", "TooFewWorkers", 2);
}

/// More workers are wanted, by hand or by an autoscaler: nothing is worse than it was before.
#[test]
fn a_model_stays_available_while_it_grows() {
    let small = with_answering(&model(2, &json!({}), None), 2);
    check(&small, "True", "EnoughWorkers", 1);
    let grown = model(6, &json!({}), Some(&small));
    let growing = with_answering(&grown, 2);
    check(&growing, "True", "EnoughWorkers", 1);
    assert_eq!(
        of(&growing, "Available").message,
        "2 workers answer, and at least 1 must; 5 must once 6 workers are there"
    );
    check(&with_answering(&grown, 0), "False", "TooFewWorkers", 5);
    let full = with_answering(&model(6, &json!({}), Some(&growing)), 5);
    check(&full, "True", "EnoughWorkers", 5);
    let lost = with_answering(&model(6, &json!({}), Some(&full)), 4);
    check(&lost, "False", "TooFewWorkers", 5);
    let late = with_answering(&model(6, &json!({}), Some(&lost)), 4);
    check(&late, "False", "TooFewWorkers", 5);
}
