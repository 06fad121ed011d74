//! What a worker is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use inferyard_listen::Listen;

mod url;

pub use url::{EngineUrl, EngineUrlError};

/// Everything a worker needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// The canonical name of the model it serves.
    pub model: String,
    /// What computes it.
    pub engine: Engine,
    /// Tokens of one sequence, prompt and answer together. None: as many as the model was trained
    /// for, if the KV cache holds them; of a server beside the worker, as many as it says.
    pub context_length: Option<u32>,
    /// Sequences that run together; 1 to 255 in the embedded engine.
    pub max_running: usize,
    /// Requests that wait.
    pub max_queued: usize,
    /// Cells of the KV cache, of the embedded engine. None: 16,384, or the context length where that is more.
    pub kv_tokens: Option<u64>,
    /// Tokens computed in one step at most; what the running answers leave of it goes to prompts.
    pub batch_tokens: u32,
    /// Threads of the engine. None: by the size of the model and the machine.
    pub threads: Option<usize>,
    /// How long running requests may take to finish after shutdown was asked for.
    pub drain_timeout: Duration,
    /// How long a reader may leave its events unread before it is cut off.
    pub slow_reader_timeout: Duration,
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

    fn with_engine(listen: Listen, model: String, engine: Engine, max_running: usize) -> Self {
        Self {
            listen,
            model,
            engine,
            context_length: None,
            max_running,
            max_queued: 256,
            kv_tokens: None,
            batch_tokens: 512,
            threads: None,
            drain_timeout: Duration::from_secs(30),
            slow_reader_timeout: Duration::from_secs(30),
            metrics: None,
        }
    }
}
