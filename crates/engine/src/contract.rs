//! The contract of an engine: how a worker starts it, hands requests to it, and ends it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Failure;
use crate::reply::Events;
use crate::request::Request;
use crate::state::{Capacity, State};

/// Limits that every engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Tokens of one sequence, prompt and answer together. None: the engine's own limit.
    pub context_length: Option<u32>,
    /// Sequences that run at the same time.
    pub max_running: usize,
    /// Requests that wait in the queue.
    pub max_queued: usize,
    /// How long a client may leave its full event channel unread before its request fails.
    pub slow_reader_timeout: Duration,
}

/// An engine that is configured and not started yet.
pub trait StartEngine {
    /// The started engine.
    type Handle: EngineHandle;

    /// Starts the engine, which begins to load its model. It reports its progress, its load and its cached prefixes
    /// to `state`.
    ///
    /// # Errors
    ///
    /// The operating system starts no thread.
    fn start(self, state: Arc<State>) -> io::Result<Self::Handle>;
}

/// A started engine: it loads, serves and ends. Dropping the handle ends the engine.
pub trait EngineHandle: Send {
    /// The engine that takes requests.
    type Engine: Engine + 'static;
    /// Why the model cannot be served.
    type LoadError: Error + Send + Sync + 'static;

    /// Waits until the model is loaded.
    ///
    /// # Errors
    ///
    /// The model cannot be served, or the engine was stopped meanwhile. Every call after the first one that was
    /// awaited to its end fails as well.
    fn loaded(&mut self) -> impl Future<Output = Result<Self::Engine, Self::LoadError>> + Send;

    /// Waits until a loaded engine changes between serving and not serving. Returns whether it serves now; `None`
    /// once the engine has ended.
    fn health_changed(&mut self) -> impl Future<Output = Option<bool>> + Send;

    /// Lets running requests finish, refuses all others, and ends the engine after that.
    fn drain(&self);

    /// Ends the engine now; running requests fail.
    fn stop(&self);

    /// Waits until the engine has ended, after [`drain`](Self::drain) or [`stop`](Self::stop).
    fn ended(&mut self) -> impl Future<Output = ()> + Send;
}

/// An engine whose model is loaded.
pub trait Engine: Send + Sync {
    /// Takes a request. The events arrive while the engine produces them.
    ///
    /// # Cancellation
    ///
    /// Dropping the events ends the request before its next token.
    ///
    /// # Errors
    ///
    /// The queue refuses the request, or the request is invalid for this model.
    fn generate(&self, request: Request) -> Result<Events, Failure>;

    /// The limits that routers are told.
    fn capacity(&self) -> Capacity;

    /// A remark that `Watch` shows while the engine serves; empty for most engines.
    fn note(&self) -> &'static str {
        ""
    }
}

// === impl EngineLimits ===

impl EngineLimits {
    /// The default limits of an engine that runs up to `max_running` sequences: 256 requests wait, and a client may
    /// leave its events unread for 30 seconds.
    #[must_use]
    pub fn new(max_running: usize) -> Self {
        Self {
            context_length: None,
            max_running,
            max_queued: 256,
            slow_reader_timeout: Duration::from_secs(30),
        }
    }
}
