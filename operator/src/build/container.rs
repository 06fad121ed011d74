//! What containers of workers have in common.

use serde_json::{Value, json};

use crate::validate::Validated;

/// What every container may do: nothing beyond computing.
pub(super) fn confined() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// The accelerators, for the container that computes.
pub(super) fn accelerators(model: &Validated) -> Option<Value> {
    let (resource, count) = model.accelerators.as_ref()?;
    let count = count.to_string();
    Some(json!({ "limits": { resource: count }, "requests": { resource: count } }))
}
