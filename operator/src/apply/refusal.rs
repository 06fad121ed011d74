//! Tells refusals of the API server, which the user has to fix, from errors that may pass.

use inferyard_crds::{ModelDeployment, Reason};
use serde_json::Value;

use super::ApplyError;
use crate::kind::Kind;
use crate::validate::Refusal;

/// The start of the error about an object that does not fit its schema. The status of the response is 500.
const NOT_TYPED: &str = "failed to create typed patch object";
/// The start of the error about an invalid value, such as a quantity. The status of the response is 500 too.
const NOT_CONVERTED: &str = "unable to convert unstructured object";
/// The error about an unknown field.
const UNKNOWN_FIELD: &str = "field not declared in schema";

/// Reads an error of the API server. A permanent refusal is reported to the user; all other errors are retried.
pub(super) fn read(
    resource: &ModelDeployment,
    kind: Kind,
    name: &str,
    error: &kube::Error,
) -> ApplyError {
    let (kind, status) = match error {
        kube::Error::Api(status) => (kind.as_str(), status),
        other => {
            return ApplyError::Failed(format!("cannot apply {} {name}: {other}", kind.as_str()));
        }
    };
    if let Some(mistakes) = mistakes(&status.message) {
        return ApplyError::Refused(untyped(resource, kind, name, &mistakes));
    }
    let message = &status.message;
    let is_final = ["denied the request", NOT_CONVERTED];
    if matches!(status.code, 400 | 403 | 422)
        || is_final.iter().any(|words| message.contains(words))
    {
        return ApplyError::Refused(Refusal {
            reason: Reason::Refused,
            message: format!("the API server refuses {kind} {name}: {message}"),
        });
    }
    ApplyError::Failed(format!(
        "the API server fails to take {kind} {name} (status {}): {message}",
        status.code
    ))
}

/// The mistakes in an object that does not fit its schema, each with its path.
fn mistakes(said: &str) -> Option<Vec<&str>> {
    let (_, mistakes) = said.split_once(NOT_TYPED)?.1.split_once("): ")?;
    let several = mistakes.strip_prefix("errors:");
    let lines = several.unwrap_or(mistakes).lines().map(str::trim);
    Some(lines.filter(|line| !line.is_empty()).collect())
}

/// The refusal of an object that does not fit its schema. If all mistakes are in the user's pod template, they are
/// reported by their paths there.
fn untyped(resource: &ModelDeployment, kind: &str, name: &str, mistakes: &[&str]) -> Refusal {
    let template = resource.spec.pod_template.as_ref();
    let own = |mistake: &&str| {
        let (path, said) = mistake.strip_prefix(".spec.template.")?.split_once(": ")?;
        let field = path.rsplit(['.', ']']).next().unwrap_or(path);
        let is_own =
            field.is_empty() || template.is_some_and(|template| has_field(template, field));
        let said = if said == UNKNOWN_FIELD {
            "the API server knows no such field"
        } else {
            said
        };
        is_own.then(|| format!("spec.podTemplate.{path}: {said}"))
    };
    let owned: Option<Vec<_>> = mistakes.iter().map(own).collect();
    match owned {
        Some(owned) => Refusal {
            reason: Reason::Invalid,
            message: owned.join("; "),
        },
        None => Refusal {
            reason: Reason::Refused,
            message: format!(
                "the API server refuses {kind} {name}: {}",
                mistakes.join("; ")
            ),
        },
    }
}

/// Whether a value has a field of this name at any depth.
fn has_field(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(field, value)| field == name || has_field(value, name)),
        Value::Array(items) => items.iter().any(|item| has_field(item, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn check(template: &Value, code: u16, said: &str, expected: Result<&str, (Reason, &str)>) {
        let spec = json!({
            "model": { "source": { "builtin": { "name": "demo" } } },
            "podTemplate": template,
        });
        let resource = crate::validate::tests::resource(&spec);
        let status = Status::failure(said, "").with_code(code);
        let error = kube::Error::Api(status.boxed());
        match (
            read(&resource, Kind::Deployment, "demo-worker", &error),
            expected,
        ) {
            (ApplyError::Failed(message), Ok(told)) => assert_eq!(message, told),
            (ApplyError::Refused(refusal), Err((reason, told))) => {
                assert_eq!((refusal.reason, refusal.message.as_str()), (reason, told));
            }
            (found, expected) => unreachable!("{found:?} is not {expected:?}"),
        }
    }

    /// The texts of Kubernetes 1.34.
    #[test]
    fn a_field_that_kubernetes_does_not_have_is_reported_by_its_path() {
        let typo = json!({ "spec": { "nodeSelectr": { "a": "b" } } });
        let object = "failed to create typed patch object (crates/demo-model-worker; apps/v1, Kind=Deployment): ";
        check(
            &typo,
            500,
            &format!("{object}.spec.template.spec.nodeSelectr: field not declared in schema"),
            Err((
                Reason::Invalid,
                "spec.podTemplate.spec.nodeSelectr: the API server knows no such field",
            )),
        );
        let deep = json!({ "spec": { "containers": [{ "name": "worker", "env": [{ "name": "A", "valu": "b" }] }] } });
        let several = format!(
            "{object}errors:\n  .spec.template.spec.containers[name=\"worker\"].env[name=\"A\"].valu: field not \
             declared in schema\n  .spec.template.spec.containers[name=\"worker\"].env: duplicate entries for key \
             [name=\"A\"]"
        );
        check(
            &deep,
            500,
            &several,
            Err((
                Reason::Invalid,
                "spec.podTemplate.spec.containers[name=\"worker\"].env[name=\"A\"].valu: the API server knows no \
                 such field; spec.podTemplate.spec.containers[name=\"worker\"].env: duplicate entries for key \
                 [name=\"A\"]",
            )),
        );
    }

    /// An older Kubernetes may not know a field that the operator itself sets.
    #[test]
    fn a_field_of_the_operator_is_not_called_the_users() {
        check(
            &json!({ "spec": { "hostname": "h" } }),
            500,
            "failed to create typed patch object (n/demo-worker; apps/v1, Kind=Deployment): \
             .spec.template.spec.volumes[name=\"weights\"].image: field not declared in schema",
            Err((
                Reason::Refused,
                "the API server refuses Deployment demo-worker: .spec.template.spec.volumes[name=\"weights\"].image: \
                 field not declared in schema",
            )),
        );
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let webhook = "Internal error occurred: failed calling webhook \"a.b\": connection refused";
        check(
            &Value::Null,
            500,
            webhook,
            Ok(&format!(
                "the API server fails to take Deployment demo-worker (status 500): {webhook}"
            )),
        );
        for (code, said) in [
            (403, "exceeded quota"),
            (422, "Invalid value"),
            (500, "admission webhook \"a.b\" denied the request: no"),
            (
                500,
                "failed to convert new object (n/demo-worker; apps/v1, Kind=Deployment) to proper version: unable to convert \
                 unstructured object to apps/v1, Kind=Deployment: quantities must match the regular expression '^x$'",
            ),
        ] {
            let told = format!("the API server refuses Deployment demo-worker: {said}");
            check(&Value::Null, code, said, Err((Reason::Refused, &told)));
        }
    }
}
