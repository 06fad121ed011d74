//! What the containers of a worker pod have in common: their rights, accelerators, variables and mounts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, EnvVar, ResourceRequirements, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::validate::Validated;

/// The security context of every container: no capability, and a root filesystem that cannot be written.
pub(super) fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// The accelerators, for the container that computes.
pub(super) fn accelerators(model: &Validated) -> Option<ResourceRequirements> {
    let (resource, count) = model.accelerators.as_ref()?;
    let amount = BTreeMap::from([(resource.clone(), Quantity(count.to_string()))]);
    Some(ResourceRequirements {
        limits: Some(amount.clone()),
        requests: Some(amount),
        ..ResourceRequirements::default()
    })
}

/// An environment variable with a fixed value.
pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

/// A writable mount of a volume.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

/// A mount of a volume that the container only reads.
pub(super) fn read_only_mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(volume, path)
    }
}
