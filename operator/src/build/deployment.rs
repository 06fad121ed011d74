//! The Deployment of a model's workers: the update strategy, and the template of the pods.

use inferyard_crds::MODEL_ANNOTATION;
use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, Toleration,
    TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{USER, chat_template, digest, engine, labels, overlay, selector, weights, worker};
use crate::names::{TEMPLATE_ANNOTATION, child_name};
use crate::validate::Validated;

/// Seconds beyond the drain timeout that a worker has to exit.
const EXIT_SECONDS: u64 = 15;
/// Loading may take hours, and the pods themselves report why it fails, so the Deployment gives up late: after a day.
const PROGRESS_DEADLINE_SECONDS: i32 = 86_400;

pub(super) fn spec(model: &Validated, template: PodTemplateSpec) -> DeploymentSpec {
    DeploymentSpec {
        replicas: Some(model.replicas),
        revision_history_limit: Some(3),
        progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
        selector: selector(model),
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(model.max_surge.clone()),
                max_unavailable: Some(model.max_unavailable.clone()),
            }),
        }),
        template,
        ..DeploymentSpec::default()
    }
}

/// The template of the pods, and its digest. The digest is also an annotation of the template, so that the status can
/// tell the pods of this template from older ones.
pub(super) fn template(model: &Validated) -> (PodTemplateSpec, String) {
    let mut template = own_template(model);
    if let Some(overlay) = &model.overlay {
        template = overlay::lay_over(template, overlay);
    }
    annotate(&mut template, MODEL_ANNOTATION, &model.model);
    let digest = digest(&template);
    annotate(&mut template, TEMPLATE_ANNOTATION, &digest);
    (template, digest)
}

fn annotate(template: &mut PodTemplateSpec, name: &str, value: &str) {
    let metadata = template.metadata.get_or_insert_default();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(name.to_owned(), value.to_owned());
}

/// The template before the user's overlay is laid over it.
fn own_template(model: &Validated) -> PodTemplateSpec {
    let init_containers: Vec<_> = (weights::fetch(model).into_iter())
        .chain(engine::sidecar(model))
        .collect();
    let tolerations: Vec<_> = model.tolerations.iter().map(toleration).collect();
    let spec = PodSpec {
        service_account_name: Some(child_name(&model.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(
            (model.drain.as_secs() + EXIT_SECONDS).cast_signed(),
        ),
        security_context: Some(security_context()),
        topology_spread_constraints: Some(vec![spread(model)]),
        init_containers: (!init_containers.is_empty()).then_some(init_containers),
        containers: vec![worker::container(model)],
        volumes: Some(volumes(model)),
        node_selector: (!model.node_selector.is_empty()).then(|| model.node_selector.clone()),
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        priority_class_name: model.priority_class.clone(),
        ..PodSpec::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(model)),
            annotations: chat_template::annotations(model),
            ..ObjectMeta::default()
        }),
        spec: Some(spec),
    }
}

fn security_context() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Spreads workers over nodes where possible, so that the loss of one node does not stop all of them.
fn spread(model: &Validated) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector(model)),
        ..TopologySpreadConstraint::default()
    }
}

fn volumes(model: &Validated) -> Vec<Volume> {
    let mut volumes = vec![Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }];
    volumes.extend(weights::volume(model));
    volumes.extend(engine::volumes(model));
    volumes.extend(chat_template::volume(model));
    volumes
}

fn toleration(declared: &inferyard_crds::Toleration) -> Toleration {
    Toleration {
        key: declared.key.clone(),
        operator: declared
            .operator
            .map(|operator| operator.as_str().to_owned()),
        value: declared.value.clone(),
        effect: declared.effect.map(|effect| effect.as_str().to_owned()),
        toleration_seconds: None,
    }
}
