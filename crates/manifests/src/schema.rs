//! Checks a tree against the schema of a custom resource, as an API server does, but with messages for
//! the author of the manifest.

use std::collections::HashMap;
use std::sync::LazyLock;

use inferyard_crds::{exactly_one_of, nearest};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use parking_lot::Mutex;
use regex::Regex;

use crate::yaml::{Node, Value};

/// A violation of the schema.
#[derive(Debug)]
pub struct Violation {
    /// The path of the field, as in `spec.model.aliases[1]`.
    pub path: String,
    /// The line, from 1; 0 where it is not known.
    pub line: u64,
    /// What was expected and what was found.
    pub message: String,
    /// The field is not in the schema.
    pub unknown_field: bool,
}

/// Appends every violation in `node`, which is at `path`, to `found`.
pub(crate) fn check(schema: &JSONSchemaProps, node: &Node, path: &str, found: &mut Vec<Violation>) {
    let mut report = |message| found.push(violation(node, path, message));
    let expected = expectation(schema);
    match (schema.type_.as_deref(), &node.value) {
        (_, Value::Null) if schema.nullable == Some(true) => {}
        (Some("object"), Value::Map(fields)) => check_fields(schema, node, fields, path, found),
        (Some("array"), Value::List(items)) => check_items(schema, node, items, path, found),
        (Some("string"), Value::Text(text)) => {
            if !text_fits(schema, text) {
                report(format!("expected {expected}, found {node}"));
            }
        }
        (Some("string"), Value::Number(_) | Value::Bool(_)) => {
            let text = node.to_string();
            let quoted = if text_fits(schema, &text) {
                format!(": write {text:?}, in quotes")
            } else {
                String::new()
            };
            report(format!("expected {expected}, found {text}{quoted}"));
        }
        (Some("integer"), Value::Number(number)) => {
            let whole = number.as_i64().map(as_float);
            if !whole.is_some_and(|value| in_range(schema, value)) {
                report(format!("expected {expected}, found {node}"));
            }
        }
        (None, _) if schema.x_kubernetes_int_or_string == Some(true) => {
            if !number_or_share(schema, &node.value) {
                report(format!("expected {expected}, found {node}"));
            }
        }
        (Some("boolean"), Value::Bool(_)) | (None, _) => {}
        _ => report(format!("expected {expected}, found {node}")),
    }
}

fn violation(node: &Node, path: &str, message: String) -> Violation {
    Violation {
        path: path.to_owned(),
        line: node.line,
        message,
        unknown_field: false,
    }
}

fn check_fields(
    schema: &JSONSchemaProps,
    node: &Node,
    fields: &[(String, Node)],
    path: &str,
    found: &mut Vec<Violation>,
) {
    let known = schema.properties.as_ref();
    if let Some(max) = schema.max_properties
        && length(fields.len()) > max
    {
        let message = format!("expected at most {max} fields, found {}", fields.len());
        found.push(violation(node, path, message));
    }
    for (name, value) in fields {
        let place = join(path, name);
        match known.and_then(|known| known.get(name)) {
            Some(_) if matches!(value.value, Value::Null) => {}
            Some(field) => check(field, value, &place, found),
            None if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
            None => match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(any)) => check(any, value, &place, found),
                Some(JSONSchemaPropsOrBool::Bool(true)) => {}
                _ => {
                    let known = known.into_iter().flatten().map(|(name, _)| name.as_str());
                    let known: Vec<_> = known.collect();
                    let meant = nearest(name, known.iter().copied())
                        .map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
                    let message = format!("unknown field{meant}; known here: {}", listed(known));
                    found.push(Violation {
                        unknown_field: true,
                        ..violation(value, &place, message)
                    });
                }
            },
        }
    }
    for name in schema.required.iter().flatten() {
        if node.get(name).is_none() {
            let expected = known
                .and_then(|known| known.get(name))
                .map_or_else(|| "a value".to_owned(), expectation);
            let message = format!("missing: expected {expected}");
            found.push(violation(node, &join(path, name), message));
        }
    }
    check_one_of(schema, node, path, found);
}

/// Objects of which exactly one field must be set have a CEL rule, which is recognized by its text.
fn check_one_of(schema: &JSONSchemaProps, node: &Node, path: &str, found: &mut Vec<Violation>) {
    let names: Vec<&str> = (schema.properties.iter().flatten())
        .map(|(name, _)| name.as_str())
        .collect();
    let rule = exactly_one_of(names.iter().copied());
    let mut rules = schema.x_kubernetes_validations.iter().flatten();
    if !rules.any(|own| own.rule == rule) {
        return;
    }
    let present: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| node.get(name).is_some())
        .collect();
    if present.len() != 1 {
        let present = if present.is_empty() {
            "none".to_owned()
        } else {
            present.join(" and ")
        };
        let message = format!("expected exactly one of {}, found {present}", listed(names));
        found.push(violation(node, path, message));
    }
}

fn check_items(
    schema: &JSONSchemaProps,
    node: &Node,
    items: &[Node],
    path: &str,
    found: &mut Vec<Violation>,
) {
    if let Some(max) = schema.max_items
        && length(items.len()) > max
    {
        let message = format!("expected at most {max} items, found {}", items.len());
        found.push(violation(node, path, message));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(each, item, &format!("{path}[{index}]"), found);
        }
    }
}

fn text_fits(schema: &JSONSchemaProps, text: &str) -> bool {
    let length = length(text.chars().count());
    schema.min_length.is_none_or(|min| length >= min)
        && schema.max_length.is_none_or(|max| length <= max)
        && schema
            .pattern
            .as_deref()
            .is_none_or(|pattern| matches(pattern, text))
        && schema
            .enum_
            .as_ref()
            .is_none_or(|values| values.iter().any(|value| value.0 == text))
}

/// Whether a value is a number within the bounds, or a text that matches the pattern.
fn number_or_share(schema: &JSONSchemaProps, value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(as_float);
            whole.is_some_and(|value| in_range(schema, value))
        }
        Value::Text(text) => text_fits(schema, text),
        _ => false,
    }
}

/// A length as the integer type of schemas. A length that does not fit is above every bound, as `i64::MAX` is.
fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Patterns are compiled once: the schemas have few of them, and thousands of keys match the same one. All schemas are
/// ours, and a test compiles every pattern in them.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock();
    if !compiled.contains_key(pattern) {
        let regex = Regex::new(pattern);
        let regex = regex.expect("the patterns of a schema should be regular expressions");
        compiled.insert(pattern.to_owned(), regex);
    }
    compiled[pattern].is_match(text)
}

fn in_range(schema: &JSONSchemaProps, value: f64) -> bool {
    let (min, max) = match schema.format.as_deref() {
        Some("int32") => (as_float(i32::MIN.into()), as_float(i32::MAX.into())),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    value >= schema.minimum.unwrap_or(min).max(min)
        && value <= schema.maximum.unwrap_or(max).min(max)
}

/// Bounds in a schema are floating-point numbers, and all are far below 2^53, up to which integers are exact.
#[expect(
    clippy::cast_precision_loss,
    reason = "a value near 2^53 is out of every range of a schema or compared to none"
)]
fn as_float(value: i64) -> f64 {
    value as f64
}

/// What the schema expects, in words. A schema has a title and an example where its bounds and pattern would not tell a
/// person what to write.
fn expectation(schema: &JSONSchemaProps) -> String {
    let scalar = matches!(schema.type_.as_deref(), None | Some("string" | "integer"));
    if let Some(title) = schema.title.as_ref().filter(|_| scalar) {
        let example = schema.example.as_ref();
        let example =
            example.map_or_else(String::new, |example| format!(", such as {}", example.0));
        return format!("{title}{example}");
    }
    match schema.type_.as_deref() {
        Some("integer") => "a whole number".to_owned() + &range(schema),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("object") => "a mapping".to_owned(),
        Some("string") => expected_text(schema),
        _ => "a value".to_owned(),
    }
}

fn expected_text(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> = values.iter().map(|value| value.0.to_string()).collect();
        return listed(values.iter().map(String::as_str));
    }
    if schema.format.as_deref() == Some("date-time") {
        return "a moment such as 2030-01-31T00:00:00Z".to_owned();
    }
    let length = match (schema.min_length, schema.max_length) {
        (Some(min), Some(max)) => format!(" of {min} to {max} characters"),
        (None, Some(max)) => format!(" of at most {max} characters"),
        _ => String::new(),
    };
    match &schema.pattern {
        Some(pattern) => format!("a text{length} that matches {pattern}"),
        None => format!("a text{length}"),
    }
}

fn range(schema: &JSONSchemaProps) -> String {
    match (schema.minimum, schema.maximum) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" of at least {min}"),
        (None, Some(max)) => format!(" of at most {max}"),
        (None, None) => String::new(),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Joins names: `a`, `a or b`, `a, b or c`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keywords that `check` checks, that are only documentation, or that the modules `plan`, `key` and `link` check: the
    /// CEL rules between fields. Each of these rules has a test in `manifests/tests` that expects its message.
    const KEYWORDS: [&str; 22] = [
        "type",
        "nullable",
        "properties",
        "required",
        "additionalProperties",
        "maxProperties",
        "x-kubernetes-int-or-string",
        "items",
        "maxItems",
        "minLength",
        "maxLength",
        "pattern",
        "enum",
        "minimum",
        "maximum",
        "format",
        "x-kubernetes-preserve-unknown-fields",
        "description",
        "title",
        "default",
        "example",
        "x-kubernetes-validations",
    ];

    /// A keyword that is not checked here would let a mistake pass on one machine that a cluster refuses.
    fn assert_checked(schema: &serde_json::Value) {
        for (keyword, value) in schema.as_object().unwrap() {
            assert!(
                KEYWORDS.contains(&keyword.as_str()),
                "{keyword} is not checked"
            );
            match keyword.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(assert_checked),
                "items" => assert_checked(value),
                "additionalProperties" if value.is_object() => assert_checked(value),
                "pattern" => drop(Regex::new(value.as_str().unwrap()).unwrap()),
                "type" => assert!(
                    ["object", "array", "string", "integer", "boolean"]
                        .contains(&value.as_str().unwrap())
                ),
                "format" => {
                    assert!(["int32", "int64", "date-time"].contains(&value.as_str().unwrap()));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_schemas_is_checked() {
        for definition in inferyard_crds::definitions() {
            for version in definition.spec.versions {
                let mut schema = version.schema.unwrap().open_api_v3_schema.unwrap();
                // A status is never written by hand.
                schema.properties.as_mut().unwrap().remove("status");
                assert_checked(&serde_json::to_value(schema).unwrap());
            }
        }
    }
}
