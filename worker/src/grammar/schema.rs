//! A client's JSON Schema becomes one that can be enforced token by token.

use serde_json::{Map, Value, json};

/// The most bytes of JSON that a schema may have.
const BIGGEST: usize = 256 * 1024;

/// The schema, to be obeyed without free white space. `strict`: a keyword that cannot be enforced is
/// an error; otherwise it is ignored.
pub(super) fn enforced(schema: &Value, strict: bool) -> Result<Value, String> {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        // `true` accepts everything.
        Value::Bool(true) => Map::new(),
        _ => return Err("it is not a JSON object".to_owned()),
    };
    if schema.get("type").is_none_or(Value::is_null) {
        schema.remove("type");
    }
    // The separators of Python's json.dumps, which chat templates and so models are used to.
    let how = json!({
        "whitespace_flexible": false,
        "item_separator": ", ",
        "key_separator": ": ",
        "lenient": !strict,
    });
    schema.insert("x-guidance".to_owned(), how);
    let schema = Value::Object(schema);
    if schema.to_string().len() > BIGGEST {
        return Err(format!("it has more than {BIGGEST} bytes"));
    }
    Ok(schema)
}

/// The schema of arguments, which are an object even where it does not say so.
pub(super) fn of_object(mut schema: Value) -> Result<Value, String> {
    let Value::Object(fields) = &mut schema else {
        return Ok(schema);
    };
    match fields.get("type") {
        None if fields.contains_key("$ref") => {}
        None => {
            fields.insert("type".to_owned(), "object".into());
        }
        Some(Value::String(kind)) if kind == "object" => {}
        Some(_) => return Err("their type must be 'object'".to_owned()),
    }
    Ok(schema)
}
