//! What a worker is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use inferyard_listen::Listen;

/// Everything a worker needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// The canonical name of the model it serves.
    pub model: String,
    /// The model's file.
    pub gguf: PathBuf,
    /// Tokens of one sequence, prompt and answer together. None: as many as the model was trained
    /// for, if the KV cache holds them.
    pub context_length: Option<u32>,
    /// Sequences that run together, 1 to 255.
    pub max_running: usize,
    /// Requests that wait.
    pub max_queued: usize,
    /// Cells of the KV cache. None: 16,384, or the context length where that is more.
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

// === impl Config ===

impl Config {
    /// The defaults for a model.
    #[must_use]
    pub fn new(listen: Listen, model: impl Into<String>, gguf: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            model: model.into(),
            gguf: gguf.into(),
            context_length: None,
            max_running: 16,
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
