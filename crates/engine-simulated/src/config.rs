//! The settings of the simulated engine.

use std::net::SocketAddr;
use std::time::Duration;

use inferyard_engine::EngineLimits;

use crate::gpu::Settings;

/// The settings of the simulated engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Without a context length, a sequence may have 131,072 tokens, if the KV cache holds them.
    pub limits: EngineLimits,
    /// Tokens that the KV cache holds. None: 1,000,000.
    pub kv_tokens: Option<u64>,
    /// The most prompt tokens that one step computes.
    pub batch_tokens: u32,
    /// Prompt tokens computed in a second; infinite: they cost no time.
    pub prefill_tokens_per_second: f64,
    /// How long a step takes that computes the next token of one sequence.
    pub step: Duration,
    /// How much longer every further sequence makes a step.
    pub step_per_sequence: Duration,
    /// Tokens of an answer whose request sets no limit.
    pub answer_tokens: u32,
    /// Where the engine also serves OpenAI's HTTP API, so that other routers can be measured with it.
    /// None: nowhere.
    pub http: Option<SocketAddr>,
}

// === impl Config ===

impl Config {
    /// Nothing takes any time: tokens come as fast as they are read.
    #[must_use]
    pub fn instant() -> Self {
        Self::with(&Settings::instant())
    }

    /// What the GPU can do within these settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            prefill_tokens_per_second: self.prefill_tokens_per_second,
            step: self.step,
            step_per_sequence: self.step_per_sequence,
            kv_tokens: self.kv_tokens.unwrap_or(Settings::default().kv_tokens),
            max_running: self.limits.max_running,
            batch_tokens: self.batch_tokens,
        }
    }

    fn with(gpu: &Settings) -> Self {
        Self {
            limits: EngineLimits::new(gpu.max_running),
            kv_tokens: None,
            batch_tokens: gpu.batch_tokens,
            prefill_tokens_per_second: gpu.prefill_tokens_per_second,
            step: gpu.step,
            step_per_sequence: gpu.step_per_sequence,
            answer_tokens: 64,
            http: None,
        }
    }
}

impl Default for Config {
    /// A model of 8 billion parameters on one big GPU; answers of 64 tokens.
    fn default() -> Self {
        Self::with(&Settings::default())
    }
}
