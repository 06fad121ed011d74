//! The settings of the embedded engine.

use std::path::PathBuf;

use inferyard_engine::EngineLimits;

/// The most sequences that can run at the same time: llama.cpp tells 256 apart, and two are left for cached prefixes.
pub const MAX_RUNNING: u16 = 254;

/// The settings of the embedded engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The model's file.
    pub gguf: PathBuf,
    /// The Jinja template of conversations. None: the model's own.
    pub chat_template: Option<String>,
    /// At most [`MAX_RUNNING`] sequences run. Without a context length, a sequence may have as many tokens as the model
    /// was trained for, if the KV cache holds them.
    pub limits: EngineLimits,
    /// Cells of the KV cache. None: 16,384, or the context length if that is more.
    pub kv_tokens: Option<u64>,
    /// The most tokens that one step computes. Running answers take theirs first, prompts get the rest.
    pub batch_tokens: u32,
    /// Threads that compute. None: by the size of the model and the machine.
    pub threads: Option<usize>,
    /// The `inferyard` program, whose subcommand `compile-schemas` compiles the schemas of requests first, within
    /// limits of time and memory. None: schemas are compiled in this process only.
    pub schema_sandbox: Option<PathBuf>,
}

// === impl Config ===

impl Config {
    /// The default settings for a model's file.
    #[must_use]
    pub fn new(gguf: impl Into<PathBuf>) -> Self {
        Self {
            gguf: gguf.into(),
            chat_template: None,
            limits: EngineLimits::new(16),
            kv_tokens: None,
            batch_tokens: 512,
            threads: None,
            schema_sandbox: None,
        }
    }
}
