//! The chat template of a declaration in a pod: its volume, its mount, and the arguments that name the file.

use inferyard_crds::ChatTemplate;
use serde_json::{Value, json};

use crate::validate::{CHAT_TEMPLATE_FILE, EngineKind, ServerKind, Validated};

/// Where an inline template is in a pod. Its text is in the pod template, so a new one replaces the workers, and
/// the operator needs no right to write ConfigMaps.
const ANNOTATION: &str = "inferyard.dev/chat-template";
const VOLUME: &str = "chat-template";
const FOLDER: &str = "/chat-template";
/// SGLang tells a template in Jinja from others by the end of its name.
const FILE: &str = "template.jinja";

/// The annotations of pods.
pub(super) fn annotations(model: &Validated) -> Option<Value> {
    match &model.chat_template {
        Some(ChatTemplate::Inline(text)) => Some(json!({ ANNOTATION: text })),
        Some(ChatTemplate::ConfigMap(_)) | None => None,
    }
}

/// The volume that holds the file.
pub(super) fn volume(model: &Validated) -> Option<Value> {
    Some(match model.chat_template.as_ref()? {
        ChatTemplate::Inline(_) => json!({
            "name": VOLUME,
            "downwardAPI": { "items": [{
                "path": FILE,
                "fieldRef": { "fieldPath": format!("metadata.annotations['{ANNOTATION}']") },
            }] },
        }),
        // A pod whose volume is not there says nothing of it in its status. So it may be missing here, and the
        // variable says it.
        ChatTemplate::ConfigMap(from) => json!({
            "name": VOLUME,
            "configMap": {
                "name": from.name,
                "optional": true,
                "items": [{ "key": from.key, "path": FILE }],
            },
        }),
    })
}

/// The mount of the container that renders conversations.
pub(super) fn mount(model: &Validated) -> Option<Value> {
    model.chat_template.as_ref()?;
    Some(json!({ "name": VOLUME, "mountPath": FOLDER, "readOnly": true }))
}

/// A variable that no program reads. It makes the kubelet check the ConfigMap and its entry: where one is missing,
/// the container is not started, and the status of the pod says which one.
pub(super) fn variable(model: &Validated) -> Option<Value> {
    let Some(ChatTemplate::ConfigMap(from)) = &model.chat_template else {
        return None;
    };
    Some(json!({
        "name": "INFERYARD_CHAT_TEMPLATE",
        "valueFrom": { "configMapKeyRef": { "name": from.name, "key": from.key } },
    }))
}

/// The arguments that name the file to an engine. Arguments of an `openai` engine are the user's own.
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
    fn the_file_is_where_everybody_is_told() {
        assert_eq!(CHAT_TEMPLATE_FILE, format!("{FOLDER}/{FILE}"));
    }
}
