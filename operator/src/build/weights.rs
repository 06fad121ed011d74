//! The weights in a pod: their volume, its mount, and the init container that fetches them.

use inferyard_crds::WORKER_GRPC_PORT;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ImageVolumeSource,
    PersistentVolumeClaimVolumeSource, SecretKeySelector, Volume, VolumeMount,
};

use super::container::{confined, mount as writable_mount, read_only_mount, variable};
use crate::names::child_name;
use crate::validate::{Validated, Weights};

/// The folder of the weights, in every container that reads them.
const FOLDER: &str = "/weights";
const VOLUME: &str = "weights";

/// The volume that holds the weights, if they are not in the image of the container.
pub(super) fn volume(model: &Validated) -> Option<Volume> {
    let mut volume = Volume {
        name: VOLUME.to_owned(),
        ..Volume::default()
    };
    match (&model.weights, &model.storage) {
        (Weights::Builtin | Weights::File(_), _) => return None,
        (Weights::Fetched(_), None) => volume.empty_dir = Some(EmptyDirVolumeSource::default()),
        (Weights::Fetched(_), Some(_)) => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: child_name(&model.name),
                read_only: None,
            });
        }
        (Weights::Claim(name, _), _) => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: Some(true),
            });
        }
        (Weights::Image(reference, policy, _), _) => {
            volume.image = Some(ImageVolumeSource {
                reference: Some(reference.clone()),
                pull_policy: policy.map(str::to_owned),
            });
        }
    }
    Some(volume)
}

/// The mount of a container that reads the weights.
pub(super) fn mount(model: &Validated) -> Option<VolumeMount> {
    volume(model)?;
    Some(read_only_mount(VOLUME, FOLDER))
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

/// The arguments that name the weights to the embedded engine.
pub(super) fn worker_args(model: &Validated) -> Vec<String> {
    match &model.weights {
        Weights::Builtin => vec!["--builtin".to_owned(), "demo".to_owned()],
        _ => vec!["--gguf".to_owned(), path(model)],
    }
}

/// The init container that fetches the weights. It reports its progress on the gRPC port of the worker.
pub(super) fn fetch(model: &Validated) -> Option<Container> {
    let Weights::Fetched(fetched) = &model.weights else {
        return None;
    };
    let mut args = vec![
        "fetch".to_owned(),
        "--to".to_owned(),
        FOLDER.to_owned(),
        "--listen".to_owned(),
        format!("0.0.0.0:{WORKER_GRPC_PORT}"),
    ];
    args.extend(fetched.args.iter().cloned());
    let mut env = vec![variable("TMPDIR", "/tmp")];
    if let Some(endpoint) = &fetched.endpoint {
        env.push(variable("HF_ENDPOINT", endpoint));
    }
    if let Some((variable, secret, key)) = &fetched.secret {
        env.push(from_secret(variable, secret, key));
    }
    Some(Container {
        name: "fetch".to_owned(),
        image: Some(model.image.clone()),
        args: Some(args),
        env: Some(env),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(confined()),
        volume_mounts: Some(vec![
            writable_mount("tmp", "/tmp"),
            writable_mount(VOLUME, FOLDER),
        ]),
        ..Container::default()
    })
}

/// An environment variable with the value of an entry of a Secret.
fn from_secret(variable: &str, secret: &str, key: &str) -> EnvVar {
    EnvVar {
        name: variable.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}
