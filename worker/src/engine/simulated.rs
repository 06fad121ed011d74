//! A worker without a model: a timing model of a GPU answers, for benchmarks and scale tests.
//!
//! ```text
//!  prepare    a request is measured: bytes → tokens, prefix blocks, the length of its answer
//!  admit      it waits for its place, as in front of every engine
//!  ┌ gpu        what a step computes and how long it takes; `kv` is its block cache
//!  │ drive      lets that time pass, on tokio's clock
//!  │ answer     tokens → the same `words` in every answer
//!  └ reply      as in every engine: parked, cut, cancelled
//! ```
//!
//! Everything but the model is the real worker. `http` answers OpenAI's API in the same process, so
//! that other routers can be measured on the same engine.

mod prepare;
pub(crate) mod gpu;
pub(crate) mod kv;
mod drive;
mod answer;
mod words;
pub(crate) mod http;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::admit::{Orders, Place, Queue, Refused};
use crate::config::{self, Config};
use crate::engine::reply::{Events, Reader, Reply};
use crate::event::Failure;
use crate::request::Request;
use crate::state::{Capacity, State};

use drive::Drive;
use gpu::{Gpu, SettingsError};
use prepare::{Job, Limits};

/// Tokens of one sequence, where nobody said how many.
const CONTEXT_LENGTH: u64 = 131_072;

/// An engine that is ready.
#[derive(Clone)]
pub(crate) struct Simulated {
    limits: Limits,
    capacity: Capacity,
    queue: Arc<Queue<Job>>,
}

/// An engine that runs and ends; held by whoever answers for it.
pub(crate) struct Task {
    queue: Arc<Queue<Job>>,
    engine: Option<Result<Simulated, SimulateError>>,
    tasks: TaskTracker,
}

/// Why there is nothing to simulate.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The GPU makes no sense.
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

/// One request's reader, as the engine knows it.
struct Seat {
    queue: Arc<Queue<Job>>,
    place: Place,
}

// === impl Task ===

impl Task {
    /// Starts the engine.
    pub(crate) fn start(config: &Config, simulated: &config::Simulated, state: Arc<State>) -> Self {
        let queue = Arc::new(Queue::new(
            config.max_queued,
            config.max_running,
            Arc::clone(&state),
        ));
        let tasks = TaskTracker::new();
        let engine = match gpu(config, simulated) {
            Ok((gpu, context_length)) => {
                let engine = Simulated::new(config, simulated, context_length, &queue);
                let timeout = config.slow_reader_timeout;
                let drive = Drive::new(gpu, Arc::clone(&queue), state, timeout);
                tasks.spawn(drive.run());
                Ok(engine)
            }
            Err(error) => Err(error),
        };
        tasks.close();
        Self {
            queue,
            engine: Some(engine),
            tasks,
        }
    }

    /// The engine: there is nothing to wait for.
    pub(crate) fn loaded(&mut self) -> Result<Simulated, SimulateError> {
        tracing::warn!("this worker has no model: it simulates one, and its answers say nothing");
        self.engine.take().unwrap_or(Err(SimulateError::Abandoned))
    }

    /// Lets running requests finish, refuses all others, and ends after that.
    pub(crate) fn drain(&self) {
        self.queue.order(Orders::Drain);
    }

    /// Ends now; running requests fail.
    pub(crate) fn stop(&self) {
        self.queue.order(Orders::Stop);
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        self.tasks.wait().await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The GPU, and how long a sequence may get on it.
fn gpu(config: &Config, simulated: &config::Simulated) -> Result<(Gpu, u32), SimulateError> {
    let settings = simulated.settings(config);
    let gpu = Gpu::new(settings).map_err(SimulateError::Settings)?;
    let kv_tokens = settings.kv_tokens;
    let context_length = config
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

// === impl Simulated ===

impl Simulated {
    /// What it says about itself while it serves.
    pub(crate) const NOTE: &str = "simulated engine";

    fn new(
        config: &Config,
        simulated: &config::Simulated,
        context_length: u32,
        queue: &Arc<Queue<Job>>,
    ) -> Self {
        Self {
            limits: Limits {
                max_running: config.max_running,
                context_length,
                answer_tokens: simulated.answer_tokens,
            },
            capacity: Capacity {
                max_running: u32::try_from(config.max_running).unwrap_or(u32::MAX),
                max_queued: u32::try_from(config.max_queued).unwrap_or(u32::MAX),
                kv_total_tokens: simulated.settings(config).kv_tokens,
                context_length,
                template_tokens: prepare::template_tokens(),
            },
            queue: Arc::clone(queue),
        }
    }

    /// Takes a request; its events come as the engine produces them.
    ///
    /// # Cancellation
    ///
    /// Dropping the events ends the request at the end of the step.
    pub(crate) fn generate(&self, request: Request) -> Result<Events, Failure> {
        self.queue.check().map_err(Refused::failure)?;
        let prepared = self.limits.prepare(request)?;
        let mut reader = None;
        let joined = self.queue.join(prepared.job.priority, |place| {
            let seat = Seat {
                queue: Arc::clone(&self.queue),
                place,
            };
            let (reply, events) = Reply::channel(Arc::new(seat));
            reader = Some(events);
            Job { prepared, reply }
        });
        joined.map_err(Refused::failure)?;
        reader.ok_or_else(|| Refused::Draining.failure())
    }

    /// What it can do.
    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }
}

// === impl Seat ===

impl Reader for Seat {
    fn caught_up(&self) {
        self.queue.wake();
    }

    fn left(&self) {
        self.queue.leave(self.place);
    }
}
