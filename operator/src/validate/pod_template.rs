//! Checks the user's pod template before it is laid over the one of the operator.

use inferyard_crds::Reason;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::{EngineKind, Refusal, Weights, refusal, strict};

/// The pod template, if it fits its type, changes no reserved field, and names only containers that exist or that have
/// an image.
pub(super) fn check(
    template: &Value,
    weights: &Weights,
    engine: &EngineKind,
) -> Result<Value, Refusal> {
    reserved(template)?;
    strict::read::<PodTemplateSpec>(template, "spec.podTemplate")
        .map_err(|mistakes| refusal(Reason::Invalid, mistakes.join("; ")))?;
    containers(template, weights, engine)?;
    Ok(template.clone())
}

fn invalid(message: &str) -> Refusal {
    refusal(Reason::Invalid, format!("spec.podTemplate: {message}"))
}

/// Refuses fields and labels that the operator reserves.
fn reserved(template: &Value) -> Result<(), Refusal> {
    let fields = template.as_object().into_iter().flatten();
    for (name, _) in fields {
        if !matches!(name.as_str(), "metadata" | "spec") {
            return Err(invalid(&format!(
                "expected metadata and spec, found {name}"
            )));
        }
    }
    for field in [
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "ephemeralContainers",
    ] {
        if !template["spec"][field].is_null() {
            let instead = match field {
                "terminationGracePeriodSeconds" => ": set spec.rollout.drainTimeout",
                _ => "",
            };
            return Err(invalid(&format!("spec.{field} is the operator's{instead}")));
        }
    }
    let labels = template["metadata"]["labels"].as_object();
    for (label, _) in labels.into_iter().flatten() {
        if label.starts_with("inferyard.dev/") || label.starts_with("app.kubernetes.io/") {
            return Err(invalid(&format!("the label {label} is the operator's")));
        }
    }
    Ok(())
}

/// Each container either changes one of the operator, or has an image. The API server would only report a missing
/// image, not a misspelled name.
fn containers(template: &Value, weights: &Weights, engine: &EngineKind) -> Result<(), Refusal> {
    let mut before = Vec::new();
    if matches!(weights, Weights::Fetched(_)) {
        before.push("fetch");
    }
    if matches!(engine, EngineKind::Server(..)) {
        before.push("engine");
    }
    let mut all = vec!["worker"];
    all.extend(&before);
    for (list, own) in [("containers", &all), ("initContainers", &before)] {
        let items = template["spec"][list].as_array();
        for container in items.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            if own.contains(&name) || container["image"].is_string() {
                continue;
            }
            let known = match &own[..] {
                [] => "none here".to_owned(),
                own => own.join(", "),
            };
            return Err(refusal(
                Reason::Invalid,
                format!(
                    "spec.podTemplate.spec.{list}: there is no container {name:?} to change; the operator's are \
                     {known}, and one of your own needs an image"
                ),
            ));
        }
    }
    Ok(())
}
