//! A server beside the worker as its engine: the flags.

use clap::ValueEnum;
use inferyard_worker::{EngineUrl, Upstream, UpstreamKind};

/// A server beside the worker.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Engine beside the worker")]
pub(super) struct Args {
    /// Let a server that speaks OpenAI's API compute the model
    #[arg(
        long,
        value_name = "ENGINE",
        group = "weights",
        requires = "engine_url",
        conflicts_with_all = ["files", "kv_tokens", "threads"]
    )]
    engine: Option<Kind>,
    /// Where it is, on this machine: `http://127.0.0.1:8000`
    #[arg(long, value_name = "URL", requires = "engine")]
    engine_url: Option<EngineUrl>,
    /// The name by which it knows the model [default: the first that it lists at /v1/models]
    #[arg(long, value_name = "NAME", requires = "engine")]
    engine_model: Option<String>,
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
}

// === impl Args ===

impl Args {
    /// The server, if there is one.
    pub(super) fn upstream(&self) -> Option<Upstream> {
        let kind = match self.engine? {
            Kind::Vllm => UpstreamKind::Vllm,
            Kind::Sglang => UpstreamKind::SgLang,
            Kind::Openai => UpstreamKind::OpenAi,
        };
        Some(Upstream {
            kind,
            url: self.engine_url.clone()?,
            model: self.engine_model.clone(),
        })
    }
}
