//! What turns requests into tokens: a model in this process, a server beside it, or a timing model.

pub(crate) mod embedded;
pub(crate) mod openai;
pub(crate) mod simulated;
pub(crate) mod rates;
mod reply;
mod requests;

use std::io;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::event::Failure;
use crate::request::Request;
use crate::state::{Capacity, State};

use embedded::{Embedded, Thread};
use openai::{Attachment, OpenAi};
use simulated::{Simulated, Task};

pub(crate) use reply::{Cancel, Events};
#[cfg(test)]
pub(crate) use reply::{Reader, Reply};

/// An engine whose model is loaded.
#[derive(Clone)]
pub(crate) enum Engine {
    /// A model in this process.
    Embedded(Embedded),
    /// A server beside it.
    OpenAi(OpenAi),
    /// No model.
    Simulated(Simulated),
}

/// An engine that is being started, runs, and ends; held by whoever answers for it.
pub(crate) enum Life {
    /// A model in this process.
    Embedded(Thread),
    /// A server beside it.
    OpenAi(Attachment),
    /// No model.
    Simulated(Task),
}

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// In this process.
    #[error(transparent)]
    Embedded(embedded::LoadError),
    /// By the server beside it.
    #[error(transparent)]
    OpenAi(openai::AttachError),
    /// Without a model.
    #[error(transparent)]
    Simulated(simulated::SimulateError),
}

// === impl Life ===

impl Life {
    /// Starts the engine.
    pub(crate) fn start(config: Config, state: Arc<State>) -> io::Result<Self> {
        match config.engine.clone() {
            config::Engine::Embedded { gguf } => {
                Thread::start(config, gguf, state).map(Self::Embedded)
            }
            config::Engine::Upstream(upstream) => {
                Ok(Self::OpenAi(Attachment::start(config, upstream, state)))
            }
            config::Engine::Simulated(simulated) => {
                Ok(Self::Simulated(Task::start(&config, &simulated, state)))
            }
        }
    }

    /// Waits until the model is loaded.
    pub(crate) async fn loaded(&mut self) -> Result<Engine, LoadError> {
        match self {
            Self::Embedded(thread) => {
                let loaded = thread.loaded().await;
                loaded.map(Engine::Embedded).map_err(LoadError::Embedded)
            }
            Self::OpenAi(attachment) => {
                let loaded = attachment.loaded().await;
                loaded.map(Engine::OpenAi).map_err(LoadError::OpenAi)
            }
            Self::Simulated(task) => {
                let loaded = task.loaded();
                loaded.map(Engine::Simulated).map_err(LoadError::Simulated)
            }
        }
    }

    /// Waits until a loaded engine stops to serve, or serves again: whether it does. None: it has
    /// ended.
    pub(crate) async fn turned(&mut self) -> Option<bool> {
        match self {
            Self::Embedded(thread) => {
                // It serves until it ends.
                thread.ended().await;
                None
            }
            Self::OpenAi(attachment) => attachment.turned().await,
            Self::Simulated(task) => {
                task.ended().await;
                None
            }
        }
    }

    /// Lets running requests finish, refuses all others, and ends the engine after that.
    pub(crate) fn drain(&self) {
        match self {
            Self::Embedded(thread) => thread.drain(),
            Self::OpenAi(attachment) => attachment.drain(),
            Self::Simulated(task) => task.drain(),
        }
    }

    /// Ends the engine now; running requests fail.
    pub(crate) fn stop(&self) {
        match self {
            Self::Embedded(thread) => thread.stop(),
            Self::OpenAi(attachment) => attachment.stop(),
            Self::Simulated(task) => task.stop(),
        }
    }

    /// Waits until the engine has ended.
    pub(crate) async fn ended(&mut self) {
        match self {
            Self::Embedded(thread) => thread.ended().await,
            Self::OpenAi(attachment) => attachment.ended().await,
            Self::Simulated(task) => task.ended().await,
        }
    }
}

// === impl Engine ===

impl Engine {
    /// Takes a request; its events come as the engine produces them.
    ///
    /// # Cancellation
    ///
    /// Dropping the events ends the request before its next token.
    pub(crate) fn generate(&self, request: Request) -> Result<Events, Failure> {
        match self {
            Self::Embedded(embedded) => embedded.generate(request),
            Self::OpenAi(server) => server.generate(request),
            Self::Simulated(simulated) => simulated.generate(request),
        }
    }

    /// What it can do.
    pub(crate) fn capacity(&self) -> Capacity {
        match self {
            Self::Embedded(embedded) => embedded.capacity(),
            Self::OpenAi(server) => server.capacity(),
            Self::Simulated(simulated) => simulated.capacity(),
        }
    }

    /// What people must know who see that it serves; mostly nothing.
    pub(crate) fn note(&self) -> &'static str {
        match self {
            Self::Embedded(_) | Self::OpenAi(_) => "",
            Self::Simulated(_) => Simulated::NOTE,
        }
    }
}
