//! The chat template of a model in a pod: its volume, its mount, and the arguments that name the file.

use std::collections::BTreeMap;

use inferyard_crds::ChatTemplate;
use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    EnvVar, EnvVarSource, KeyToPath, ObjectFieldSelector, Volume, VolumeMount,
};

use super::container::read_only_mount;
use crate::validate::{CHAT_TEMPLATE_FILE, EngineKind, ServerKind, Validated};

/// The annotation of a pod that holds an inline template. The text is part of the pod template, so a new text replaces
/// the workers, and the operator needs no right to write ConfigMaps.
const ANNOTATION: &str = "inferyard.dev/chat-template";
const VOLUME: &str = "chat-template";
const FOLDER: &str = "/chat-template";
/// SGLang recognizes a Jinja template by the extension of its file name.
const FILE: &str = "template.jinja";

/// The annotations that the pods need for an inline template.
pub(super) fn annotations(model: &Validated) -> Option<BTreeMap<String, String>> {
    match &model.chat_template {
        Some(ChatTemplate::Inline(text)) => {
            Some(BTreeMap::from([(ANNOTATION.to_owned(), text.clone())]))
        }
        Some(ChatTemplate::ConfigMap(_)) | None => None,
    }
}

/// The volume that holds the file.
pub(super) fn volume(model: &Validated) -> Option<Volume> {
    let mut volume = Volume {
        name: VOLUME.to_owned(),
        ..Volume::default()
    };
    match model.chat_template.as_ref()? {
        ChatTemplate::Inline(_) => {
            volume.downward_api = Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: FILE.to_owned(),
                    field_ref: Some(ObjectFieldSelector {
                        field_path: format!("metadata.annotations['{ANNOTATION}']"),
                        api_version: None,
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
                default_mode: None,
            });
        }
        // The status of a pod does not name a ConfigMap whose volume cannot be mounted. So the volume is optional,
        // and the variable below makes the kubelet report what is missing.
        ChatTemplate::ConfigMap(from) => {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: from.name.clone(),
                optional: Some(true),
                items: Some(vec![KeyToPath {
                    key: from.key.clone(),
                    path: FILE.to_owned(),
                    mode: None,
                }]),
                default_mode: None,
            });
        }
    }
    Some(volume)
}

/// The mount of the container that renders conversations.
pub(super) fn mount(model: &Validated) -> Option<VolumeMount> {
    model.chat_template.as_ref()?;
    Some(read_only_mount(VOLUME, FOLDER))
}

/// A variable that no program reads. It makes the kubelet check the ConfigMap and its entry: if one is missing, the
/// container does not start, and the status of the pod names the missing one.
pub(super) fn variable(model: &Validated) -> Option<EnvVar> {
    let Some(ChatTemplate::ConfigMap(from)) = &model.chat_template else {
        return None;
    };
    Some(EnvVar {
        name: "INFERYARD_CHAT_TEMPLATE".to_owned(),
        value_from: Some(EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector {
                name: from.name.clone(),
                key: from.key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    })
}

/// The arguments that name the file to an engine. The user writes the arguments of an `openai` engine.
pub(super) fn args(model: &Validated) -> Vec<String> {
    match (&model.chat_template, &model.engine) {
        (None, _) | (_, EngineKind::Server(ServerKind::Openai, _)) => Vec::new(),
        (Some(_), _) => vec!["--chat-template".to_owned(), CHAT_TEMPLATE_FILE.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_at_the_documented_path() {
        assert_eq!(CHAT_TEMPLATE_FILE, format!("{FOLDER}/{FILE}"));
    }
}
