//! The chat template that replaces the one of the model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Jinja template that renders conversations into prompts. Set exactly one of the fields.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[schemars(transform = crate::exactly_one::exactly_one)]
#[serde(rename_all = "camelCase")]
pub enum ChatTemplate {
    /// Text of the template. A change replaces the workers. Limit: 49152 characters.
    Inline(#[schemars(schema_with = "text")] String),
    /// Entry of a ConfigMap with the template, of at most 100 KiB. Engines read it only when they start: for a new
    /// text, use a ConfigMap with a new name, or restart the workers yourself.
    ConfigMap(ConfigMapKey),
}

/// An entry of a ConfigMap in the namespace of the resource.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// Name of the ConfigMap.
    #[schemars(schema_with = "crate::object_name")]
    pub name: String,
    /// Key of the entry in the ConfigMap.
    #[schemars(schema_with = "entry")]
    pub key: String,
}

/// Schema of an inline template. The text becomes an annotation of pods. Kubernetes allows 256 KiB for all annotations
/// of a pod, and a character takes up to four bytes.
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
