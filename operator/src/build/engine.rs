//! The engine beside a worker, and how the worker reaches it.

use serde_json::{Value, json};

use super::container::{accelerators, confined};
use super::{template, weights};
use crate::validate::{EngineKind, ServerKind, Validated};

/// Where an engine listens, for the containers of its pod alone.
const HOST: &str = "127.0.0.1";
const PORT: &str = "8000";

/// What the worker's command line says of its engine.
pub(super) fn worker_args(model: &Validated) -> Vec<String> {
    let (kind, engine) = match &model.engine {
        EngineKind::Embedded(flags) => {
            let mut args = weights::worker_args(model);
            args.extend(template::args(model));
            args.extend(flags.iter().cloned());
            return args;
        }
        EngineKind::Server(kind, engine) => (*kind, engine),
    };
    let mut args = vec![
        "--engine".to_owned(),
        kind.as_str().to_owned(),
        "--engine-url".to_owned(),
        format!("http://{HOST}:{PORT}"),
    ];
    let named = match kind {
        ServerKind::Openai => engine.served_model_name.as_deref(),
        ServerKind::Vllm | ServerKind::Sglang => Some(served_name(model)),
    };
    if let Some(name) = named {
        args.extend(["--engine-model".to_owned(), name.to_owned()]);
    }
    args
}

fn served_name(model: &Validated) -> &str {
    match &model.engine {
        EngineKind::Server(_, engine) => {
            engine.served_model_name.as_deref().unwrap_or(&model.model)
        }
        EngineKind::Embedded(_) => &model.model,
    }
}

/// The engine as a native sidecar: it starts before the worker, and is asked to end only when the worker
/// has ended, so that answers run to their end.
pub(super) fn sidecar(model: &Validated) -> Option<Value> {
    let EngineKind::Server(kind, engine) = &model.engine else {
        return None;
    };
    let set = |name: &str, value: &str| json!({ "name": name, "value": value });
    let mut env = vec![
        set("HOME", "/tmp"),
        set("TMPDIR", "/tmp"),
        set("XDG_CACHE_HOME", "/tmp/.cache"),
    ];
    env.extend(template::variable(model));
    env.extend((engine.env.iter()).map(|(name, value)| set(name, value)));
    let mut mounts = vec![
        json!({ "name": "tmp", "mountPath": "/tmp" }),
        json!({ "name": "shm", "mountPath": "/dev/shm" }),
    ];
    mounts.extend(weights::mount(model));
    mounts.extend(template::mount(model));
    let mut container = json!({
        "name": "engine",
        "image": engine.image,
        "restartPolicy": "Always",
        "env": env,
        // Its log may hold prompts, which must not get into the status of the pod.
        "terminationMessagePolicy": "File",
        "securityContext": confined(),
        "volumeMounts": mounts,
    });
    let (command, args) = command(model, *kind, &engine.args);
    if let Some(command) = command {
        container["command"] = json!(command);
    }
    if !args.is_empty() {
        container["args"] = json!(args);
    }
    if let Some(accelerators) = accelerators(model) {
        container["resources"] = accelerators;
    }
    Some(container)
}

type Command = (Option<Vec<&'static str>>, Vec<String>);

/// How the server is started. What the user gives comes last, and wins where the server lets it.
fn command(model: &Validated, kind: ServerKind, own: &[String]) -> Command {
    let at = |flag: &str, value: &str| [flag.to_owned(), value.to_owned()];
    let path = weights::path(model);
    let name = served_name(model);
    let (command, mut args) = match kind {
        ServerKind::Openai => return (None, own.to_vec()),
        ServerKind::Vllm => {
            let mut args = vec![path];
            args.extend(at("--served-model-name", name));
            (vec!["vllm", "serve"], args)
        }
        ServerKind::Sglang => {
            let mut args = Vec::from(at("--model-path", &path));
            args.extend(at("--served-model-name", name));
            args.push("--enable-metrics".to_owned());
            let command = vec!["python3", "-m", "sglang.launch_server"];
            (command, args)
        }
    };
    args.extend(at("--host", HOST));
    args.extend(at("--port", PORT));
    if let Some(ranks) = model.tensor_ranks {
        args.extend(at("--tensor-parallel-size", &ranks.to_string()));
    }
    args.extend(template::args(model));
    args.extend(own.iter().cloned());
    (Some(command), args)
}

/// Memory that the processes of one engine share.
pub(super) fn volumes(model: &Validated) -> Option<Value> {
    let server = matches!(model.engine, EngineKind::Server(..));
    server.then(|| json!({ "name": "shm", "emptyDir": { "medium": "Memory" } }))
}

// === impl ServerKind ===

impl ServerKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Openai => "openai",
        }
    }
}
