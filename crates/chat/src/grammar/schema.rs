//! A client's JSON Schema becomes one that can be enforced token by token.

mod divisors;
mod finite;
mod keywords;
mod numbers;
mod walk;

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(super) use walk::{first_bound_of_members, first_one_of};

/// The most bytes of JSON that a schema may have.
const BIGGEST: usize = 256 * 1024;

/// A client's schema, and where it stands in the request.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Its JSON text.
    pub text: Bytes,
    /// What its errors are told by.
    pub path: String,
    /// Every keyword must be enforced; otherwise those that cannot be are left out.
    pub strict: bool,
}

/// What a schema must describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any JSON value.
    Any,
    /// Arguments, which are an object even where the schema does not say so.
    Object,
}

/// Why a schema is not enforced, and where.
#[derive(Debug)]
pub(super) struct Unfit {
    /// The keyword at fault, from the request's top.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

// === impl Schema ===

impl Schema {
    /// Any JSON object, which is what `json_object` asks for.
    #[must_use]
    pub fn any_object() -> Self {
        Self {
            text: Bytes::from_static(br#"{"type":"object"}"#),
            path: "response_format".to_owned(),
            strict: true,
        }
    }

    /// The schema as the compiler takes it, without free white space.
    pub(super) fn enforced(&self, form: Form) -> Result<Value, Unfit> {
        let unfit = |reason: String| Unfit {
            path: self.path.clone(),
            reason,
        };
        if self.text.len() > BIGGEST {
            return Err(unfit(format!("it has more than {BIGGEST} bytes")));
        }
        let text = std::str::from_utf8(&self.text).map_err(|_| unfit("it is not UTF-8".into()))?;
        let schema: Value = serde_json::from_str(text)
            .map_err(|error| unfit(format!("it cannot be read as JSON: {error}")))?;
        let mut schema = match schema {
            Value::Object(schema) => schema,
            // `true` accepts everything.
            Value::Bool(true) => Map::new(),
            _ => return Err(unfit("it is not a JSON object".to_owned())),
        };
        if schema.get("type").is_none_or(Value::is_null) {
            schema.remove("type");
        }
        if form == Form::Object {
            as_object(&mut schema).map_err(|reason| Unfit {
                path: format!("{}.type", self.path),
                reason,
            })?;
        }
        let rounded = numbers::inexact(text, &self.path);
        let mut schema = Value::Object(schema);
        walk::walk(&mut schema, &self.path, self.strict, &rounded)?;
        if let Value::Object(fields) = &mut schema {
            // The separators of Python's json.dumps, which chat templates and so models are used to.
            let how = json!({
                "whitespace_flexible": false,
                "item_separator": ", ",
                "key_separator": ": ",
                "lenient": !self.strict,
            });
            fields.insert("x-guidance".to_owned(), how);
        }
        Ok(schema)
    }
}

fn as_object(fields: &mut Map<String, Value>) -> Result<(), String> {
    match fields.get("type") {
        None if fields.contains_key("$ref") => Ok(()),
        None => {
            fields.insert("type".to_owned(), "object".into());
            Ok(())
        }
        Some(Value::String(kind)) if kind == "object" => Ok(()),
        Some(_) => Err("the type of arguments must be 'object'".to_owned()),
    }
}
