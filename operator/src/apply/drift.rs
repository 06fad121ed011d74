//! The applied fields that differ in the live object.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::list_keys;

/// Compares a live object with the desired one, and lists each difference with its path and both values. Fields that
/// only the live object has belong to others and do not count.
pub(super) fn diff(live: &DynamicObject, desired: &Value) -> Vec<String> {
    let mut live = serde_json::to_value(live).unwrap_or_default();
    // A watch delivers objects without their type.
    for field in ["apiVersion", "kind"] {
        live[field] = desired[field].clone();
    }
    let mut found = Vec::new();
    compare(&live, desired, "", &mut found);
    found
}

fn compare(live: &Value, desired: &Value, path: &str, found: &mut Vec<String>) {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            for (name, desired) in desired {
                let path = format!("{path}.{name}");
                match live.get(name) {
                    Some(live) => compare_field(name, live, desired, &path, found),
                    // The API server may drop an empty list or object.
                    None if is_empty(desired) => {}
                    None => found.push(format!("{path} {desired}")),
                }
            }
        }
        (live, desired) if live == desired => {}
        (Value::Null, desired) if is_empty(desired) => {}
        (live, desired) => found.push(format!("{path} {live} {desired}")),
    }
}

fn compare_field(name: &str, live: &Value, desired: &Value, path: &str, found: &mut Vec<String>) {
    let (Value::Array(live_items), Value::Array(items)) = (live, desired) else {
        return compare(live, desired, path, found);
    };
    let key = list_keys::key(name).filter(|key| items.iter().all(|item| item.get(key).is_some()));
    match key {
        Some(key) => {
            for item in items {
                let path = format!("{path}[{}]", item[key]);
                match live_items.iter().find(|live| live[key] == item[key]) {
                    Some(live) => compare(live, item, &path, found),
                    None => found.push(path),
                }
            }
        }
        None if live_items.len() != items.len() => found.push(format!("{path} {live}")),
        None => {
            for (index, (live, item)) in live_items.iter().zip(items).enumerate() {
                compare(live, item, &format!("{path}[{index}]"), found);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
