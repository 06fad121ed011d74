//! What a worker is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use inferyard_listen::Listen;

use crate::simulated::Settings;

mod url;

pub use url::{EngineUrl, EngineUrlError};

/// Sequences that the embedded engine can run together: llama.cpp tells 256 apart, and two are left for prefixes.
pub const MOST_EMBEDDED: u16 = 254;

/// Everything a worker needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// The canonical name of the model it serves.
    pub model: String,
    /// What computes it.
    pub engine: Engine,
    /// The Jinja template of conversations. None: the model's own. Only the embedded engine has one.
    pub chat_template: Option<String>,
    /// Tokens of one sequence, prompt and answer together. None: as many as the model was trained
    /// for, if the KV cache holds them; of a server beside the worker, as many as it says.
    pub context_length: Option<u32>,
    /// Sequences that run together; at most [`MOST_EMBEDDED`] in the embedded engine.
    pub max_running: usize,
    /// Requests that wait.
    pub max_queued: usize,
    /// Cells of the KV cache. None: of the embedded engine 16,384, or the context length where that
    /// is more; of the simulated one 1,000,000.
    pub kv_tokens: Option<u64>,
    /// Tokens computed in one step at most; what the running answers leave of it goes to prompts.
    pub batch_tokens: u32,
    /// Threads of the engine. None: by the size of the model and the machine.
    pub threads: Option<usize>,
    /// The `inferyard` program, in whose subcommand `compile-schemas` the schemas of requests are compiled
    /// first, within limits of time and memory. None: they are compiled in the worker at once. Only the
    /// embedded engine compiles schemas.
    pub schema_sandbox: Option<PathBuf>,
    /// How long running requests may take to finish after shutdown was asked for.
    pub drain_timeout: Duration,
    /// How long a reader may leave its events unread before it is cut off.
    pub slow_reader_timeout: Duration,
    /// How long requests may run on a server beside the worker without a token before the worker says that
    /// it is unhealthy.
    pub engine_stall_timeout: Duration,
    /// Where Prometheus metrics are served. None: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// What computes the model.
#[derive(Clone, Debug)]
pub enum Engine {
    /// This process itself.
    Embedded {
        /// The model's file.
        gguf: PathBuf,
    },
    /// A server beside the worker.
    Upstream(Upstream),
    /// No model: a timing model of a GPU, for benchmarks and scale tests.
    Simulated(Simulated),
}

/// How a worker without a model behaves. How much runs, waits and is held is in [`Config`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simulated {
    /// Tokens of prompts computed in a second; infinite: they cost no time.
    pub prefill_tokens_per_second: f64,
    /// The next token of one running answer.
    pub step: Duration,
    /// Every further running answer makes a step this much longer.
    pub step_per_sequence: Duration,
    /// Tokens of an answer for which nobody set a limit.
    pub answer_tokens: u32,
    /// Where it also answers OpenAI's HTTP API, so that other routers can be put before it.
    /// None: nowhere.
    pub openai: Option<SocketAddr>,
}

/// A server beside the worker that speaks OpenAI's API.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Which server it is.
    pub kind: UpstreamKind,
    /// Where it is.
    pub url: EngineUrl,
    /// The name by which it knows the model. None: the one that it tells.
    pub model: Option<String>,
}

/// Which server it is: what beyond OpenAI's own fields it understands and tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamKind {
    /// vLLM.
    Vllm,
    /// SGLang.
    SgLang,
    /// Any other: only OpenAI's own fields are expected of it.
    OpenAi,
}

// === impl Config ===

impl Config {
    /// The defaults for a model that is a file.
    #[must_use]
    pub fn new(listen: Listen, model: impl Into<String>, gguf: impl Into<PathBuf>) -> Self {
        let gguf = gguf.into();
        Self::with_engine(listen, model.into(), Engine::Embedded { gguf }, 16)
    }

    /// The defaults for a model that a server beside the worker computes.
    #[must_use]
    pub fn upstream(listen: Listen, model: impl Into<String>, upstream: Upstream) -> Self {
        // It has a batch and a line of its own; this only bounds what it is given.
        Self::with_engine(listen, model.into(), Engine::Upstream(upstream), 256)
    }

    /// The defaults for a worker without a model.
    #[must_use]
    pub fn simulated(listen: Listen, model: impl Into<String>, simulated: Simulated) -> Self {
        let gpu = Settings::default();
        let engine = Engine::Simulated(simulated);
        Self {
            batch_tokens: gpu.batch_tokens,
            ..Self::with_engine(listen, model.into(), engine, gpu.max_running)
        }
    }

    fn with_engine(listen: Listen, model: String, engine: Engine, max_running: usize) -> Self {
        Self {
            listen,
            model,
            engine,
            chat_template: None,
            context_length: None,
            max_running,
            max_queued: 256,
            kv_tokens: None,
            batch_tokens: 512,
            threads: None,
            schema_sandbox: None,
            drain_timeout: Duration::from_secs(30),
            slow_reader_timeout: Duration::from_secs(30),
            engine_stall_timeout: Duration::from_secs(30),
            metrics: None,
        }
    }
}

// === impl Simulated ===

impl Simulated {
    /// Nothing takes any time: tokens come as fast as they are read.
    #[must_use]
    pub fn instant() -> Self {
        let Settings {
            prefill_tokens_per_second,
            step,
            step_per_sequence,
            ..
        } = Settings::instant();
        Self {
            prefill_tokens_per_second,
            step,
            step_per_sequence,
            ..Self::default()
        }
    }

    /// What its GPU can do within a worker's limits.
    #[must_use]
    pub fn settings(&self, config: &Config) -> Settings {
        Settings {
            prefill_tokens_per_second: self.prefill_tokens_per_second,
            step: self.step,
            step_per_sequence: self.step_per_sequence,
            kv_tokens: config.kv_tokens.unwrap_or(Settings::default().kv_tokens),
            max_running: config.max_running,
            batch_tokens: config.batch_tokens,
        }
    }
}

impl Default for Simulated {
    /// A model of 8 billion parameters on one big GPU; answers of 64 tokens.
    fn default() -> Self {
        let gpu = Settings::default();
        Self {
            prefill_tokens_per_second: gpu.prefill_tokens_per_second,
            step: gpu.step,
            step_per_sequence: gpu.step_per_sequence,
            answer_tokens: 64,
            openai: None,
        }
    }
}
