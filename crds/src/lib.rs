//! The contract between user and operator: the custom resources of `inferyard.dev/v1alpha1`.
//!
//! The same types are read from a cluster and from files on one machine. Their documentation is what
//! `kubectl explain` shows; the definitions for a cluster are generated into `yaml/`.

mod model_deployment;
mod plan;
mod limits;
mod price;
mod api_key;

pub use api_key::{ApiKey, ApiKeySpec, HALF_A_ROTATION, SAME_HASH};
pub use limits::{Limits, NO_BUDGET};
pub use model_deployment::{
    BuiltinModel, BuiltinSource, EmbeddedEngine, Engine, FileSource, ModelDeployment,
    ModelDeploymentSpec, Scaling, ServedModel, Source,
};
pub use plan::{Plan, PlanSpec, Preview, WhenRedisIsLost};
pub use price::{HALF_A_PRICE, Price, TWO_PRICES};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "inferyard.dev";

/// Group and version, as `apiVersion` has it.
pub const API_VERSION: &str = "inferyard.dev/v1alpha1";

/// The definitions of all kinds, as a cluster gets them.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![ModelDeployment::crd(), Plan::crd(), ApiKey::crd()]
}

/// What a model may be called: the pattern of names and aliases.
const MODEL_NAME: &str = r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$";

/// Schema of a model's name, for lists and options, where a field attribute does not reach.
fn model_name(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "pattern": MODEL_NAME,
    })
}

/// Schema of a list of models' names.
fn model_names(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": model_name(generator),
    })
}

/// Schema of a moment, as RFC 3339 writes it.
fn moment(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}
