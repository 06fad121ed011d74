//! The chat template that the embedded engine is given in place of the model's own.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use inferyard_engine_server::ServerKind;

use super::upstream::Chosen;
use crate::failure::Failure;

/// Reads a template.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let file = || format!("--chat-template {}", path.display());
    let bytes = fs::read(path).with_context(file)?;
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{}: not UTF-8", file()))?;
    ensure!(!text.trim().is_empty(), "{}: the file is empty", file());
    Ok(text)
}

/// Why a worker that renders no conversation takes no template.
pub(super) fn refused(chosen: &Chosen) -> Failure {
    let instead = match chosen {
        Chosen::Simulated => "leave it out: --engine simulated reads no conversation",
        Chosen::Server(server) => match server.kind {
            ServerKind::Vllm => "start vLLM with it: `vllm serve MODEL --chat-template FILE`",
            ServerKind::SgLang => {
                "start SGLang with it: `python3 -m sglang.launch_server --chat-template FILE.jinja`"
            }
            ServerKind::OpenAi => {
                "start the server with it, such as llama.cpp's: `llama-server --jinja \
                 --chat-template-file FILE`"
            }
        },
    };
    Failure::usage(format!(
        "--chat-template is for the embedded engine; a server beside the worker renders conversations \
         itself: {instead}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_template_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.jinja");
        let said = |path: &Path| format!("{:#}", read(path).unwrap_err());
        assert!(
            said(&path).contains("chat.jinja: No such file"),
            "{}",
            said(&path)
        );
        fs::write(&path, " \n").unwrap();
        assert!(said(&path).ends_with("chat.jinja: the file is empty"));
        fs::write(&path, [0xff]).unwrap();
        assert!(said(&path).ends_with("chat.jinja: not UTF-8"));
        fs::write(&path, "{{ messages }}").unwrap();
        assert_eq!(read(&path).unwrap(), "{{ messages }}");
    }
}
