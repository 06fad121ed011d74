//! `inferyard worker`: a model behind gRPC.

pub(crate) mod engine;
mod gguf;
mod spin;
mod template;
mod upstream;
mod simulated;

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use inferyard_crds::BuiltinModel;
use inferyard_engine_embedded as embedded;
use inferyard_engine_server as server;
use inferyard_engine_simulated as simulated_engine;
use inferyard_manifests::{EngineSettings, Weights};
use inferyard_worker::{Config, Listen, Worker};
use tokio::runtime;

use crate::failure::{self, Failure, manifests};
use crate::scratch::Scratch;
use crate::{builtin, duration, logs, shutdown};

use upstream::Chosen;

const EXAMPLES: &str = "\
Examples:
  inferyard worker --model demo --builtin demo
  inferyard worker --model llama --gguf ./llama.gguf --listen 0.0.0.0:50051 --context-length 8192
  inferyard worker --model qwen --engine vllm --engine-url http://127.0.0.1:8000
  inferyard worker --model sim --engine simulated --openai-listen 127.0.0.1:8000
  inferyard worker -f examples/quickstart.yaml --model demo --listen unix:/tmp/demo.sock

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong command line or manifest.";

/// Run a worker: one model behind the gRPC contract that routers speak
///
/// It prints its address once it listens, and loads the model meanwhile; `inferyard watch ADDRESS`
/// shows how far it is. The first SIGINT or SIGTERM lets running answers finish; the second ends it
/// at once.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model's name, as requests carry it; with -f, the model to take from the manifests
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Serve a model that ships with Inferyard
    #[arg(long, value_name = "NAME", group = "weights", value_parser = builtin::parse)]
    builtin: Option<BuiltinModel>,
    /// Serve a GGUF file; of a folder, the only model in it
    #[arg(long, value_name = "PATH", group = "weights")]
    gguf: Option<PathBuf>,
    /// Take the weights and the settings of the model from manifests; flags win over them
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        required_unless_present = "weights"
    )]
    files: Vec<PathBuf>,
    /// Jinja template of conversations, in place of the model's own. Servers beside the worker are given theirs when
    /// they are started
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Where it listens: `host:port` (port 0 picks a free one), or `unix:/path` for a socket that
    /// this user alone can reach
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: Listen,
    /// Where Prometheus metrics are served, as /metrics [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// Folder of this user alone for unpacking a built-in model [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// How long running answers may go on once it is asked to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    drain_timeout: Duration,
    #[command(flatten)]
    upstream: upstream::Args,
    #[command(flatten)]
    engine: engine::Args,
    #[command(flatten)]
    simulated: simulated::Args,
    /// Stop when standard input ends: with the process that started it
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    #[command(flatten)]
    logs: logs::Args,
}

/// The engine that the worker serves.
enum Engine {
    /// A model in this process.
    Embedded(embedded::Config),
    /// A server beside the worker.
    Server(server::Config),
    /// No model.
    Simulated(simulated_engine::Config),
}

/// Serves until it is asked to stop.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let kept = match args.upstream.chosen()? {
        None => spin::shorten(),
        Some(_) => None,
    };
    let _logs = logs::init(&args.logs, "worker")?;
    if let Some(error) = kept {
        tracing::warn!(%error, "the engine's threads spin: set GOMP_SPINCOUNT to shorten that");
    }
    let (config, engine, scratch) = config(args)?;
    let mut builder = if matches!(engine, Engine::Simulated(_)) {
        // It computes nothing: a second thread would only be woken and sent to sleep.
        runtime::Builder::new_current_thread()
    } else {
        // The engine has threads of its own; two are enough for gRPC and for rendering prompts
        // beside it.
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    };
    let runtime = builder.enable_all().build().context("cannot start")?;
    runtime
        .block_on(serve(config, engine, args.exit_with_parent))
        .map_err(Failure::Failed)?;
    drop(scratch);
    Ok(())
}

async fn serve(config: Config, engine: Engine, exit_with_parent: bool) -> anyhow::Result<()> {
    let stop = shutdown::requested(exit_with_parent)?;
    let worker = Worker::bind(config).await?;
    let listening = format!("listening on {}", worker.address());
    match engine {
        Engine::Embedded(engine) => {
            writeln!(io::stdout(), "{listening}")?;
            worker.run(engine, stop).await?;
        }
        Engine::Server(engine) => {
            writeln!(io::stdout(), "{listening}")?;
            worker.run(engine, stop).await?;
        }
        Engine::Simulated(engine) => {
            let engine = engine.bind().await?;
            writeln!(io::stdout(), "{listening}")?;
            if let Some(address) = engine.http_address() {
                writeln!(io::stdout(), "OpenAI's API is on http://{address}/v1")?;
            }
            worker.run(engine, stop).await?;
        }
    }
    Ok(())
}

/// The settings of server and engine, and the folder that must live as long as the worker.
fn config(args: &Args) -> Result<(Config, Engine, Option<Scratch>), Failure> {
    let chosen = args.upstream.chosen()?;
    if !matches!(chosen, Some(Chosen::Simulated)) {
        args.simulated.refuse()?;
    }
    if let (Some(_), Some(chosen)) = (&args.chat_template, &chosen) {
        return Err(template::refused(chosen));
    }
    let undeclared = EngineSettings::default();
    let (model, engine, scratch) = match chosen {
        Some(Chosen::Server(mut engine)) => {
            args.engine.refuse_kv_tokens()?;
            args.engine.apply(&undeclared, &mut engine.limits);
            (args.model.clone(), Engine::Server(engine), None)
        }
        Some(Chosen::Simulated) => {
            let mut engine = args.simulated.engine();
            args.engine.apply(&undeclared, &mut engine.limits);
            engine.kv_tokens = args.engine.kv_tokens(&undeclared);
            (args.model.clone(), Engine::Simulated(engine), None)
        }
        None => {
            args.engine.refuse_too_many()?;
            let (model, engine, scratch) = embedded(args)?;
            (model, Engine::Embedded(engine), scratch)
        }
    };
    let config = Config {
        drain_timeout: args.drain_timeout,
        metrics: args.metrics_listen,
        ..Config::new(args.listen.clone(), model)
    };
    Ok((config, engine, scratch))
}

/// A model that this process computes itself: its name, its engine, and the folder of its weights.
fn embedded(args: &Args) -> Result<(String, embedded::Config, Option<Scratch>), Failure> {
    let given = args.builtin.map(Weights::Builtin);
    let given = given.or_else(|| args.gguf.clone().map(Weights::File));
    let declared = if args.files.is_empty() {
        None
    } else {
        let (_, manifests) = manifests(&args.files)?;
        let model = manifests.model(&args.model).cloned();
        Some(model.ok_or_else(|| failure::unknown_model(&args.model))?)
    };
    let weights = given.or_else(|| Some(declared.as_ref()?.weights.clone()));
    let weights = weights.expect("clap should require weights or a manifest");
    let (gguf, scratch) = match weights {
        Weights::File(path) => {
            let file = gguf::resolve(&path).map_err(|error| Failure::Failed(error.into()))?;
            (file, None)
        }
        Weights::Builtin(model) => {
            let own = args.scratch.is_none().then(|| Scratch::make(None));
            let own = own.transpose()?;
            let folder = args.scratch.as_deref().or(own.as_ref().map(Scratch::path));
            let folder = folder.expect("a folder should be given or made");
            (builtin::unpack(model, folder)?, own)
        }
    };
    let given = args.chat_template.as_deref().map(template::read);
    let given = given.transpose().map_err(Failure::Failed)?;
    let (name, settings, declared) = match declared {
        Some(declared) => {
            let template = declared.chat_template.as_deref().map(str::to_owned);
            (declared.name.to_string(), declared.engine, template)
        }
        None => (args.model.clone(), EngineSettings::default(), None),
    };
    let mut engine = embedded::Config::new(gguf);
    engine.chat_template = given.or(declared);
    engine.schema_sandbox = Some(program()?);
    args.engine.apply(&settings, &mut engine.limits);
    engine.kv_tokens = args.engine.kv_tokens(&settings);
    engine.threads = args.engine.threads(&settings);
    Ok((name, engine, scratch))
}

/// This program; on Linux by a name that still leads to it when its file was replaced.
fn program() -> Result<PathBuf, Failure> {
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    env::current_exe().map_err(|error| Failure::Failed(error.into()))
}
