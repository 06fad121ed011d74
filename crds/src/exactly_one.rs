//! The schema of objects with exactly one field.

use schemars::Schema;
use serde_json::{Value, json};

/// The CEL rule that exactly one of these fields is set. All such objects have the same form of rule, so that readers
/// of a schema can recognize it.
#[must_use]
pub fn exactly_one_of<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_unstable();
    let there: Vec<_> = (fields.iter().map(|field| format!("has(self.{field})"))).collect();
    format!("[{}].filter(x, x).size() == 1", there.join(", "))
}

/// Turns the schema of an externally tagged enum (`oneOf`) into that of one object with a CEL rule: the message of
/// Kubernetes about `oneOf` does not say what to write.
pub(crate) fn exactly_one(schema: &mut Schema) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else {
        return;
    };
    let mut properties = serde_json::Map::new();
    for variant in variants {
        let note = variant.get("description").cloned();
        let Some(Value::Object(own)) = variant.get("properties").cloned() else {
            continue;
        };
        for (name, field) in own {
            properties.insert(name, described(field, note.as_ref()));
        }
    }
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let message = format!("expected exactly one of {}", names.join(", "));
    let rule = exactly_one_of(names);
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        json!([{ "rule": rule, "message": message }]),
    );
}

/// The schema of a field with the description of its variant.
fn described(field: Value, note: Option<&Value>) -> Value {
    match (field, note) {
        (Value::Object(mut own), Some(note)) => {
            own.insert("description".to_owned(), note.clone());
            Value::Object(own)
        }
        (field, _) => field,
    }
}
