//! The custom resources of `inferyard.dev/v1alpha1`: the contract between users and the operator.
//!
//! The same types are read from a cluster and from files on one machine. `kubectl explain` shows the doc comments of
//! their fields. A test generates the definitions for a cluster into `yaml/`.

mod model_deployment;
mod plan;
mod limits;
mod price;
mod hash;
mod api_key;
mod condition;
mod exactly_one;
mod explain;
mod near;
mod time;
mod decimal;
mod tenancy;
mod pods;

pub use api_key::{ApiKey, ApiKeySpec, HALF_A_ROTATION, HASH_OR_SECRET, SAME_HASH};
pub use condition::{ApiKeyStatus, Condition, PlanStatus};
pub use decimal::{OF_A_DOLLAR, OF_A_PRICE, decimal};
pub use exactly_one::exactly_one_of;
pub use limits::{Limits, NO_BUDGET};
pub use model_deployment::*;
pub use near::nearest;
pub use plan::{NamespaceSelector, Plan, PlanSpec, Preview, Queue, WAIT_RANGE, WhenRedisIsLost};
pub use pods::{
    APPLICATION_LABEL, METRICS_PORT_NAME, MODEL_ANNOTATION, OPERATOR_APPLICATION, OWNER_LABEL,
    ROUTER_APPLICATION, WORKER_APPLICATION, WORKER_GRPC_PORT, WORKER_METRICS_PORT,
};
pub use price::{DEFAULT_PRICE, HALF_A_PRICE, Price, TWO_PRICES};
pub use tenancy::{Claimant, Others, Platform, Reach, owners};
pub use time::seconds;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "inferyard.dev";

/// The `apiVersion` of all kinds.
pub const API_VERSION: &str = "inferyard.dev/v1alpha1";

/// The CustomResourceDefinitions of all kinds.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut models = ModelDeployment::crd();
    for version in &mut models.spec.versions {
        let schema = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            schema.x_kubernetes_validations = Some(vec![ValidationRule {
                rule: "size(self.metadata.name) <= 52 && !self.metadata.name.contains('.')"
                    .to_owned(),
                message: Some(UNFIT_NAME.to_owned()),
                ..ValidationRule::default()
            }]);
        }
    }
    let definitions = vec![models, Plan::crd(), ApiKey::crd()];
    definitions.into_iter().map(explain::on_one_line).collect()
}

/// The message for a name from which no names of pods can be made.
pub const UNFIT_NAME: &str = "expected metadata.name of at most 52 characters and without dots: the names of pods begin with it";

/// The pattern of names and aliases of models.
const MODEL_NAME: &str = r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$";

/// Schema of the name of a model, for lists and options, which field attributes do not reach.
fn model_name(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "pattern": MODEL_NAME,
    })
}

/// Schema of a list of names of models.
fn model_names(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": model_name(generator),
    })
}

/// Schema of the name of a Kubernetes object.
fn object_name(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 253,
        "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        "title": "the name of an object: lower-case letters, digits, - and .",
    })
}

/// Schema of a time in the format of RFC 3339.
fn moment(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}
