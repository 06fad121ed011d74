//! gRPC in, tokens out: a worker serves one model.
//!
//! # The token's way
//!
//! ```text
//!  rpc       a request arrives, is checked once and becomes the worker's own types
//!   admit      a place in the queue is reserved for it, or it is refused
//!   prompt     the conversation becomes the model's prompt text, and that its tokens
//!   grammar    the shape it must have becomes a grammar
//!   admit      it waits in the queue: bounded, by priority, then by arrival
//!  engine    one thread owns the model (or `engine/openai` asks a server beside the worker, or
//!            `engine/simulated` lets time pass; their answers leave by the same reply); each turn
//!            of its loop is one step of the batch:
//!   kv         what of the prompt the cache already holds is shared, not computed
//!   schedule   every running answer gets its next token, the rest of the batch is prefill
//!   sample     logits become one token for each choice
//!   output     its bytes become content, reasoning and tool calls
//!   reply      an event goes into the request's own bounded channel
//!  rpc       the events leave as `GenerateEvent`s
//! ```
//!
//! Beside it, `state` is what the worker tells every router about itself, and `metrics` shows the
//! same numbers to Prometheus.

mod config;
mod app;
mod rpc;
mod request;
mod prompt;
mod grammar;
mod admit;
mod engine;
mod output;
mod event;
mod decimal;
mod state;
mod metrics;

pub use app::{BindError, RunError, Worker};
pub use config::{
    Config, Engine, EngineUrl, EngineUrlError, MOST_EMBEDDED, Simulated, Upstream, UpstreamKind,
};
pub use engine::LoadError;
pub use engine::embedded::LoadError as EmbeddedError;
pub use engine::openai::AttachError;
pub use engine::simulated::SimulateError;
pub use grammar::compile_schemas;
pub use inferyard_listen::{Address, Listen};
pub use prompt::check as check_chat_template;

/// The timing model behind the simulated engine, for whoever replays traces over it.
pub mod simulated {
    pub use crate::engine::rates::Rates;
    pub use crate::engine::simulated::gpu::{Gpu, Job, Report, Settings, SettingsError, TooLarge};
    pub use crate::engine::simulated::kv::Block;
}
