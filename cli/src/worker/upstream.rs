//! An engine that is not in the worker: a server beside it, or none at all.

use std::time::Duration;

use clap::ValueEnum;
use inferyard_engine_server::{Config, ServerKind, ServerUrl};

use crate::duration;
use crate::failure::Failure;

/// A server beside the worker.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Engine beside the worker")]
pub(super) struct Args {
    /// Let a server that speaks OpenAI's API compute the model; or nothing at all, in benchmarks
    #[arg(
        long,
        value_name = "ENGINE",
        group = "weights",
        conflicts_with_all = ["files", "threads"]
    )]
    engine: Option<Kind>,
    /// Where it is, on this machine: `http://127.0.0.1:8000`
    #[arg(long, value_name = "URL", requires = "engine")]
    #[arg(required_if_eq_any([("engine", "vllm"), ("engine", "sglang"), ("engine", "openai")]))]
    engine_url: Option<ServerUrl>,
    /// The name by which it knows the model [default: the first that it lists at /v1/models]
    #[arg(long, value_name = "NAME", requires = "engine")]
    engine_model: Option<String>,
    /// How long requests may run without a token before routers are told to go elsewhere [default: 30s]
    #[arg(long, value_name = "TIME", requires = "engine", value_parser = duration::parse)]
    engine_stall_timeout: Option<Duration>,
}

/// Which server it is.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// vLLM
    Vllm,
    /// SGLang
    Sglang,
    /// Any other: llama.cpp, mlx_lm, TensorRT-LLM, …
    Openai,
    /// No model: its time is simulated, and its answers say nothing. For benchmarks and scale tests
    Simulated,
}

/// What takes the place of a model in the worker.
pub(super) enum Chosen {
    /// A server beside it.
    Server(Config),
    /// A timing model.
    Simulated,
}

// === impl Args ===

impl Args {
    /// The engine, if it is not the worker's own.
    pub(super) fn chosen(&self) -> Result<Option<Chosen>, Failure> {
        let kind = match self.engine {
            None => return Ok(None),
            Some(Kind::Simulated) => {
                return match (&self.engine_url, &self.engine_model) {
                    (None, None) => Ok(Some(Chosen::Simulated)),
                    _ => Err(Failure::usage(
                        "--engine simulated has no server: leave out --engine-url and \
                         --engine-model"
                            .to_owned(),
                    )),
                };
            }
            Some(Kind::Vllm) => ServerKind::Vllm,
            Some(Kind::Sglang) => ServerKind::SgLang,
            Some(Kind::Openai) => ServerKind::OpenAi,
        };
        let url = self.engine_url.clone();
        let url = url.expect("clap should require the URL of a server");
        let mut config = Config::new(kind, url);
        config.served_model.clone_from(&self.engine_model);
        if let Some(timeout) = self.engine_stall_timeout {
            config.stall_timeout = timeout;
        }
        Ok(Some(Chosen::Server(config)))
    }
}
