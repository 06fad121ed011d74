//! Checks that the declared chat template reaches its engine.

use inferyard_crds::{ChatTemplate, Engine, ModelDeploymentSpec, Reason};

use super::{Refusal, refusal};

/// The path of the declared chat template in the containers that render conversations.
pub(crate) const CHAT_TEMPLATE_FILE: &str = "/chat-template/template.jinja";

/// The declared chat template.
///
/// # Errors
///
/// The arguments of the engine do not name the file of the template, or they name another template.
pub(super) fn chat_template(spec: &ModelDeploymentSpec) -> Result<Option<ChatTemplate>, Refusal> {
    let Some(template) = &spec.chat_template else {
        return Ok(None);
    };
    let (field, args) = match &spec.engine {
        None | Some(Engine::Embedded(_)) => return Ok(Some(template.clone())),
        Some(Engine::Openai(engine)) => {
            if engine
                .args
                .iter()
                .any(|arg| arg.contains(CHAT_TEMPLATE_FILE))
            {
                return Ok(Some(template.clone()));
            }
            let message = format!(
                "spec.chatTemplate: how this server is told of a template is not known: name the file \
                 {CHAT_TEMPLATE_FILE} in spec.engine.openai.args, for llama.cpp as --chat-template-file \
                 {CHAT_TEMPLATE_FILE}"
            );
            return Err(refusal(Reason::Invalid, message));
        }
        Some(Engine::Vllm(engine)) => ("vllm", &engine.args),
        Some(Engine::Sglang(engine)) => ("sglang", &engine.args),
    };
    let own = |arg: &String| arg.split('=').next() == Some("--chat-template");
    if args.iter().any(own) {
        let message = format!(
            "spec.chatTemplate: spec.engine.{field}.args has a --chat-template too: leave one of them out"
        );
        return Err(refusal(Reason::Invalid, message));
    }
    Ok(Some(template.clone()))
}
