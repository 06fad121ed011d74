//! How weights come into a pod: the volume, the mount, and the container that fetches.

use serde_json::{Value, json};

use super::container::confined;
use crate::names::{GRPC_PORT, child_name};
use crate::validate::{Validated, Weights};

/// Where weights are, in every container that reads them.
const FOLDER: &str = "/weights";

/// The volume that holds them.
pub(super) fn volume(model: &Validated) -> Option<Value> {
    let source = match (&model.weights, &model.storage) {
        (Weights::Builtin | Weights::File(_), _) => return None,
        (Weights::Fetched(_), None) => json!({ "emptyDir": {} }),
        (Weights::Fetched(_), Some(_)) => {
            json!({ "persistentVolumeClaim": { "claimName": child_name(&model.name) } })
        }
        (Weights::Claim(name, _), _) => {
            json!({ "persistentVolumeClaim": { "claimName": name, "readOnly": true } })
        }
        (Weights::Image(reference, policy, _), _) => {
            let mut image = json!({ "reference": reference });
            if let Some(policy) = policy {
                image["pullPolicy"] = json!(policy);
            }
            json!({ "image": image })
        }
    };
    let mut volume = json!({ "name": "weights" });
    if let (Value::Object(volume), Value::Object(source)) = (&mut volume, source) {
        volume.extend(source);
    }
    Some(volume)
}

/// The mount of whoever reads them.
pub(super) fn mount(model: &Validated) -> Option<Value> {
    volume(model)?;
    Some(json!({ "name": "weights", "mountPath": FOLDER, "readOnly": true }))
}

/// The file or folder that the engine opens.
pub(super) fn path(model: &Validated) -> String {
    match &model.weights {
        Weights::File(path) => path.clone(),
        Weights::Claim(_, Some(path)) | Weights::Image(_, _, Some(path)) => {
            format!("{FOLDER}/{path}")
        }
        Weights::Builtin | Weights::Fetched(_) | Weights::Claim(..) | Weights::Image(..) => {
            FOLDER.to_owned()
        }
    }
}

/// What the embedded engine is told of them.
pub(super) fn worker_args(model: &Validated) -> Vec<String> {
    match &model.weights {
        Weights::Builtin => vec!["--builtin".to_owned(), "demo".to_owned()],
        _ => vec!["--gguf".to_owned(), path(model)],
    }
}

/// The container that fetches them before the others start. It reports on the worker's own port.
pub(super) fn fetch(model: &Validated) -> Option<Value> {
    let Weights::Fetched(fetched) = &model.weights else {
        return None;
    };
    let mut args = vec![
        "fetch".to_owned(),
        "--to".to_owned(),
        FOLDER.to_owned(),
        "--listen".to_owned(),
        format!("0.0.0.0:{GRPC_PORT}"),
    ];
    args.extend(fetched.args.iter().cloned());
    let mut env = vec![json!({ "name": "TMPDIR", "value": "/tmp" })];
    if let Some(endpoint) = &fetched.endpoint {
        env.push(json!({ "name": "HF_ENDPOINT", "value": endpoint }));
    }
    if let Some((variable, name, key)) = &fetched.secret {
        env.push(json!({
            "name": variable,
            "valueFrom": { "secretKeyRef": { "name": name, "key": key } },
        }));
    }
    Some(json!({
        "name": "fetch",
        "image": model.image,
        "args": args,
        "env": env,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": confined(),
        "volumeMounts": [
            { "name": "tmp", "mountPath": "/tmp" },
            { "name": "weights", "mountPath": FOLDER },
        ],
    }))
}
