//! The chat template that a model is given in place of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a Jinja template of conversations is: exactly one of the places.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum ChatTemplate {
    /// The template itself. When it changes, the workers are replaced.
    Inline(#[schemars(schema_with = "text")] String),
    /// An entry of a ConfigMap that holds it, of at most 100 KiB. Engines read it when they start: give a new
    /// text a ConfigMap of a new name, or restart the workers yourself.
    ConfigMap(ConfigMapKey),
}

/// One entry of a ConfigMap in the namespace of the resource.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// Name of the ConfigMap.
    #[schemars(schema_with = "crate::object_name")]
    pub name: String,
    /// The entry in it.
    #[schemars(schema_with = "entry")]
    pub key: String,
}

/// The text becomes an annotation of pods. Kubernetes allows 256 KiB for all annotations of a pod, and a character
/// takes up to four bytes.
fn text(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": 49_152 })
}

fn entry(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string", "minLength": 1, "maxLength": 253,
        "pattern": r"^[-._a-zA-Z0-9]+$",
        "title": "the name of an entry of a ConfigMap",
    })
}
