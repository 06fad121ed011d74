//! The engine of a worker: the sidecar container of a server, and the arguments by which the worker reaches it.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Volume};

use super::container::{accelerators, confined, mount, variable};
use super::{chat_template, weights};
use crate::validate::{EngineKind, ServerKind, Validated};

/// The address of an engine. Only the containers of its pod reach the loopback interface.
const HOST: &str = "127.0.0.1";
const PORT: &str = "8000";
const SHARED_MEMORY: &str = "shm";

/// The arguments of the worker that describe its engine.
pub(super) fn worker_args(model: &Validated) -> Vec<String> {
    let (kind, engine) = match &model.engine {
        EngineKind::Embedded(flags) => {
            let mut args = weights::worker_args(model);
            args.extend(chat_template::args(model));
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

/// The engine as a native sidecar: the kubelet starts it before the worker, and stops it only after the worker has
/// ended, so that running answers can finish.
pub(super) fn sidecar(model: &Validated) -> Option<Container> {
    let EngineKind::Server(kind, engine) = &model.engine else {
        return None;
    };
    let mut env = vec![
        variable("HOME", "/tmp"),
        variable("TMPDIR", "/tmp"),
        variable("XDG_CACHE_HOME", "/tmp/.cache"),
    ];
    env.extend(chat_template::variable(model));
    env.extend((engine.env.iter()).map(|(name, value)| variable(name, value)));
    let mut mounts = vec![mount("tmp", "/tmp"), mount(SHARED_MEMORY, "/dev/shm")];
    mounts.extend(weights::mount(model));
    mounts.extend(chat_template::mount(model));
    let (command, args) = command(model, *kind, &engine.args);
    Some(Container {
        name: "engine".to_owned(),
        image: Some(engine.image.clone()),
        restart_policy: Some("Always".to_owned()),
        command: command.map(|words| words.into_iter().map(str::to_owned).collect()),
        args: (!args.is_empty()).then_some(args),
        env: Some(env),
        resources: accelerators(model),
        // The log of an engine may hold prompts, which must not get into the status of the pod.
        termination_message_policy: Some("File".to_owned()),
        security_context: Some(confined()),
        volume_mounts: Some(mounts),
        ..Container::default()
    })
}

type Command = (Option<Vec<&'static str>>, Vec<String>);

/// The command line of the server. The user's arguments come last, and win where the server lets the last one win.
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
    args.extend(chat_template::args(model));
    args.extend(own.iter().cloned());
    (Some(command), args)
}

/// The shared memory of the processes of one engine.
pub(super) fn volumes(model: &Validated) -> Option<Volume> {
    let server = matches!(model.engine, EngineKind::Server(..));
    server.then(|| Volume {
        name: SHARED_MEMORY.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: None,
        }),
        ..Volume::default()
    })
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
