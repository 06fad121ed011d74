//! A worker without a model: a timing model of a GPU answers, for benchmarks and scale tests.
//!
//! ```text
//!  prepare    a request is measured: bytes → tokens, prefix blocks, the length of its answer
//!  queue      it waits for a free slot, as in front of every engine
//!  ┌ gpu        what a step computes and how long it takes; `kv` is its block cache
//!  │ drive      lets that time pass, on tokio's clock
//!  │ answer     tokens → the same `words` in every answer
//!  └ reply      as in every engine: paused, cut, cancelled
//! ```
//!
//! Everything but the model is the real worker. `http` answers OpenAI's API in the same process, so
//! that other routers can be measured on the same engine.

mod config;
mod prepare;
mod gpu;
mod kv;
mod drive;
mod answer;
mod words;
mod http;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use inferyard_engine::event::Failure;
use inferyard_engine::queue::{Queue, QueueKey, Refused, RunState};
use inferyard_engine::reply::{Events, ReaderEvents, Reply};
use inferyard_engine::request::Request;
use inferyard_engine::state::{Capacity, State};
use inferyard_engine::{Engine, EngineHandle, StartEngine};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::Config;
use drive::Drive;
pub use gpu::{Gpu, Job, Report, Settings, SettingsError, TooLarge};
pub use kv::Block;
use prepare::Limits;

/// Tokens of one sequence, if no limit is configured.
const CONTEXT_LENGTH: u64 = 131_072;
/// How long HTTP clients may take for their last events once the engine has ended.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// An engine that has bound the address of its HTTP API.
pub struct Bound {
    config: Config,
    http: Option<TcpListener>,
}

/// An engine that is ready.
#[derive(Clone)]
pub struct SimulatedEngine {
    limits: Limits,
    capacity: Capacity,
    queue: Arc<Queue<prepare::Job>>,
}

/// The task that simulates the GPU, and the HTTP server beside it.
pub struct Task {
    queue: Arc<Queue<prepare::Job>>,
    engine: Option<Result<SimulatedEngine, SimulateError>>,
    tasks: TaskTracker,
    // The HTTP server also answers while the engine drains.
    http: TaskTracker,
    end_http: CancellationToken,
}

/// The address of the HTTP API cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve OpenAI's API on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Why nothing can be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The settings of the GPU make no sense.
    #[error(transparent)]
    Settings(SettingsError),
    /// A sequence could be larger than the cache.
    #[error("a context of {context_length} tokens does not fit into {kv_tokens} KV cells")]
    Context {
        /// Tokens of one sequence.
        context_length: u32,
        /// Tokens of the cache.
        kv_tokens: u64,
    },
    /// It was asked for twice, or the worker ended.
    #[error("the engine was given up")]
    Abandoned,
}

/// How the client of one request reaches the engine.
struct QueueHandle {
    queue: Arc<Queue<prepare::Job>>,
    key: QueueKey,
}

// === impl Config ===

impl Config {
    /// Binds the address of the HTTP API, if there is one.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn bind(self) -> Result<Bound, BindError> {
        let http = match self.http {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| BindError { address, source })?)
            }
        };
        Ok(Bound { config: self, http })
    }

    /// The GPU, and how long a sequence may get on it.
    fn gpu(&self) -> Result<(Gpu, u32), SimulateError> {
        let settings = self.settings();
        let gpu = Gpu::new(settings).map_err(SimulateError::Settings)?;
        let kv_tokens = settings.kv_tokens;
        let context_length = self
            .limits
            .context_length
            .map_or_else(|| u32::try_from(kv_tokens.min(CONTEXT_LENGTH)), Ok);
        let context_length = context_length.expect("a default context should fit into 32 bits");
        if u64::from(context_length) > kv_tokens {
            return Err(SimulateError::Context {
                context_length,
                kv_tokens,
            });
        }
        Ok((gpu, context_length))
    }
}

// === impl Bound ===

impl Bound {
    /// Where the engine serves OpenAI's HTTP API.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        let http = self.http.as_ref();
        http.and_then(|listener| listener.local_addr().ok())
    }
}

impl StartEngine for Bound {
    type Handle = Task;

    fn start(self, state: Arc<State>) -> io::Result<Task> {
        let limits = &self.config.limits;
        let queue = Arc::new(Queue::new(
            limits.max_queued,
            limits.max_running,
            Arc::clone(&state),
        ));
        let (tasks, http) = (TaskTracker::new(), TaskTracker::new());
        let end_http = CancellationToken::new();
        let engine = self.config.gpu().map(|(gpu, context_length)| {
            let engine = SimulatedEngine::new(&self.config, context_length, &queue);
            if let Some(listener) = self.http {
                let server = http::Server::new(Arc::clone(&state), engine.clone());
                http.spawn(server.serve(listener, end_http.clone()));
            }
            let slow_reader = limits.slow_reader_timeout;
            let drive = Drive::new(gpu, Arc::clone(&queue), state, slow_reader);
            tasks.spawn(drive.run());
            engine
        });
        tasks.close();
        http.close();
        Ok(Task {
            queue,
            engine: Some(engine),
            tasks,
            http,
            end_http,
        })
    }
}

// === impl Task ===

impl EngineHandle for Task {
    type Engine = SimulatedEngine;
    type LoadError = SimulateError;

    async fn loaded(&mut self) -> Result<SimulatedEngine, SimulateError> {
        tracing::warn!("this worker has no model: it simulates one, and its answers say nothing");
        self.engine.take().unwrap_or(Err(SimulateError::Abandoned))
    }

    /// The engine serves until it ends.
    async fn health_changed(&mut self) -> Option<bool> {
        self.tasks.wait().await;
        None
    }

    fn drain(&self) {
        self.queue.set_run_state(RunState::Drain);
    }

    fn stop(&self) {
        self.queue.set_run_state(RunState::Stop);
    }

    async fn ended(&mut self) {
        self.tasks.wait().await;
        self.end_http.cancel();
        if timeout(LAST_EVENTS, self.http.wait()).await.is_err() {
            tracing::warn!("HTTP connections were still open at the end; they are cut");
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop();
        self.end_http.cancel();
    }
}

// === impl SimulatedEngine ===

impl SimulatedEngine {
    fn new(config: &Config, context_length: u32, queue: &Arc<Queue<prepare::Job>>) -> Self {
        let limits = &config.limits;
        Self {
            limits: Limits {
                max_running: limits.max_running,
                context_length,
                answer_tokens: config.answer_tokens,
            },
            capacity: Capacity {
                max_running: u32::try_from(limits.max_running).unwrap_or(u32::MAX),
                max_queued: u32::try_from(limits.max_queued).unwrap_or(u32::MAX),
                kv_total_tokens: config.settings().kv_tokens,
                context_length,
                template_tokens: prepare::template_tokens(),
            },
            queue: Arc::clone(queue),
        }
    }
}

impl Engine for SimulatedEngine {
    /// # Cancellation
    ///
    /// Dropping the events ends the request at the end of the step.
    fn generate(&self, request: Request) -> Result<Events, Failure> {
        self.queue.check().map_err(Refused::failure)?;
        let prepared = self.limits.prepare(request)?;
        let mut reader = None;
        let joined = self.queue.join(prepared.job.priority, |key| {
            let handle = QueueHandle {
                queue: Arc::clone(&self.queue),
                key,
            };
            let (reply, events) = Reply::channel(Arc::new(handle));
            reader = Some(events);
            prepare::Job { prepared, reply }
        });
        joined.map_err(Refused::failure)?;
        reader.ok_or_else(|| Refused::Draining.failure())
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn note(&self) -> &'static str {
        "simulated engine"
    }
}

// === impl QueueHandle ===

impl ReaderEvents for QueueHandle {
    fn drained(&self) {
        self.queue.wake();
    }

    fn disconnected(&self) {
        self.queue.leave(self.key);
    }
}
