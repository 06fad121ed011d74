//! The settings of the server engine.

use std::time::Duration;

use inferyard_engine::EngineLimits;

use crate::url::ServerUrl;

/// The settings of the server engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which server it is.
    pub kind: ServerKind,
    /// Where it is.
    pub url: ServerUrl,
    /// The name by which the server knows the model. None: the one that it lists.
    pub served_model: Option<String>,
    /// The server has a batch and a queue of its own; these limits only bound what it is given. Without a context
    /// length, the server's own counts.
    pub limits: EngineLimits,
    /// How long requests may run without a token before the worker reports that it is unhealthy.
    pub stall_timeout: Duration,
}

/// Which server it is: what it understands and tells beyond OpenAI's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// vLLM.
    Vllm,
    /// SGLang.
    SgLang,
    /// Any other: only OpenAI's own fields are expected of it.
    OpenAi,
}

// === impl Config ===

impl Config {
    /// The default settings for a server: up to 256 requests run on it at the same time.
    #[must_use]
    pub fn new(kind: ServerKind, url: ServerUrl) -> Self {
        Self {
            kind,
            url,
            served_model: None,
            limits: EngineLimits::new(256),
            stall_timeout: Duration::from_secs(30),
        }
    }
}
