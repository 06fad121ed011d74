//! The server engine: a server beside the worker that speaks OpenAI's API, such as vLLM, SGLang or llama.cpp.
//!
//! # The way of a request
//!
//! ```text
//!  upstream_request  the client's own bytes and our fields → the body for the server
//!  queue             it waits for a free slot, as in front of every engine
//!  upstream_call     a pooled connection; dropping it cancels the server's work
//!   sse               bytes → lines
//!   chunk             a line → its fields, without a tree; `wide` is text that may be cut within a character
//!   answer            chunks → events, tokens counted; `calls` makes one form of all forms of tool calls
//!   refusal           the server's errors in our own words
//! ```
//!
//! Beside it, `probe` waits for the server, checks once a second whether it is up, and reads its metrics
//! (`engine_metrics`). `health` counts failures in a row, and `recover` sends a server that fails a request of its own
//! before it is used again. `load_tracker` reports the load to `state`, and `prefix_estimate` estimates which prefixes
//! the server's cache holds.

mod config;
mod url;
mod server;
mod dialect;
mod http;
mod server_info;
mod probe;
mod health;
mod recover;
mod engine_metrics;
mod upstream_request;
mod extra;
mod upstream_call;
mod sse;
mod wide;
mod chunk;
mod answer;
mod calls;
mod refusal;
mod load_tracker;
mod prefix_estimate;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use inferyard_engine::event::{Failure, FailureKind};
use inferyard_engine::queue::{Queue, QueueKey, Refused, RunState};
use inferyard_engine::reply::{Events, ReaderEvents, Reply};
use inferyard_engine::request::{Request, check_price};
use inferyard_engine::state::{Capacity, State};
use inferyard_engine::{Engine, EngineHandle, StartEngine};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{Config, ServerKind};
use health::Condition;
use http::Client;
pub use probe::AttachError;
use server::Server;
use upstream_call::Job;
use upstream_request::UpstreamRequest;
pub use url::{ServerUrl, ServerUrlError};

/// An engine that is up.
#[derive(Clone)]
pub struct ServerEngine {
    server: Arc<Server>,
    queue: Arc<Queue<Job>>,
}

/// The attachment to a server: it waits for the server, serves requests with it, and ends.
pub struct Attachment {
    queue: Arc<Queue<Job>>,
    loaded: Option<oneshot::Receiver<Result<ServerEngine, AttachError>>>,
    condition: watch::Receiver<Condition>,
    // Cancelled once the worker no longer waits for the server to come up.
    leave: CancellationToken,
    tasks: TaskTracker,
}

/// The task that serves the queue.
struct ServeTask {
    config: Config,
    queue: Arc<Queue<Job>>,
    state: Arc<State>,
    condition: watch::Sender<Condition>,
    leave: CancellationToken,
    tasks: TaskTracker,
}

/// How the client of one request reaches the engine.
struct QueueHandle {
    queue: Arc<Queue<Job>>,
    key: QueueKey,
    reader_changed: Arc<Notify>,
}

// === impl Config ===

impl StartEngine for Config {
    type Handle = Attachment;

    /// Begins to wait for the server, and serves with it when it is up.
    fn start(self, state: Arc<State>) -> io::Result<Attachment> {
        let queue = Arc::new(Queue::new(
            self.limits.max_queued,
            self.limits.max_running,
            Arc::clone(&state),
        ));
        let (load, loaded) = oneshot::channel();
        let (turn, condition) = watch::channel(Condition::Gone);
        let leave = CancellationToken::new();
        let tasks = TaskTracker::new();
        let task = ServeTask {
            config: self,
            queue: Arc::clone(&queue),
            state,
            condition: turn,
            leave: leave.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(task.run(load));
        // A closed tracker ends `wait` once all tasks have ended; tasks can still be added.
        tasks.close();
        Ok(Attachment {
            queue,
            loaded: Some(loaded),
            condition,
            leave,
            tasks,
        })
    }
}

// === impl Attachment ===

impl EngineHandle for Attachment {
    type Engine = ServerEngine;
    type LoadError = AttachError;

    async fn loaded(&mut self) -> Result<ServerEngine, AttachError> {
        match self.loaded.as_mut() {
            Some(loaded) => {
                let loaded = loaded.await.unwrap_or(Err(AttachError::Abandoned));
                self.loaded = None;
                self.condition.mark_unchanged();
                loaded
            }
            None => Err(AttachError::Abandoned),
        }
    }

    async fn health_changed(&mut self) -> Option<bool> {
        tokio::select! {
            Ok(()) = self.condition.changed() => {
                Some(*self.condition.borrow_and_update() == Condition::Up)
            }
            () = self.tasks.wait() => None,
        }
    }

    fn drain(&self) {
        self.queue.set_run_state(RunState::Drain);
        self.leave.cancel();
    }

    fn stop(&self) {
        self.queue.set_run_state(RunState::Stop);
        self.leave.cancel();
    }

    async fn ended(&mut self) {
        self.tasks.wait().await;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl ServerEngine ===

impl Engine for ServerEngine {
    /// # Cancellation
    ///
    /// Dropping the events closes the request's connection to the engine.
    fn generate(&self, request: Request) -> Result<Events, Failure> {
        let server = &self.server;
        // A failing server still gets requests: routers send one only if no other worker can take it.
        if server.health.condition() == Condition::Gone {
            let message = "the engine does not answer";
            return Err(Failure::new(FailureKind::Loading, message));
        }
        if request.choices.get() > 1 && !server.knows_choices.load(Ordering::Relaxed) {
            return Err(answer::one_choice());
        }
        let most = server.capacity.max_running as usize;
        if request.choices.get() > most {
            return Err(Failure::too_many_choices(most));
        }
        // Before a body is written for it.
        self.queue.check().map_err(Refused::failure)?;
        let knows_priority = server.knows_priority.load(Ordering::Relaxed);
        let request = UpstreamRequest::new(request, &server.model, server.dialect, knows_priority)?;
        let prompt_tokens = match request.prompt_tokens {
            Some(tokens) => {
                let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                check_price(request.max_prompt_tokens, tokens)?;
                tokens
            }
            None => server.load.estimate(request.prompt_bytes),
        };
        let mut reader = None;
        let joined = self.queue.join(request.priority, |key| {
            let reader_changed = Arc::new(Notify::new());
            let handle = QueueHandle {
                queue: Arc::clone(&self.queue),
                key,
                reader_changed: Arc::clone(&reader_changed),
            };
            let (reply, events) = Reply::channel(Arc::new(handle));
            reader = Some(events);
            Job {
                request,
                prompt_tokens,
                reply,
                reader_changed,
            }
        });
        joined.map_err(Refused::failure)?;
        reader.ok_or_else(|| Refused::Draining.failure())
    }

    fn capacity(&self) -> Capacity {
        self.server.capacity
    }
}

// === impl ServeTask ===

impl ServeTask {
    async fn run(self, loaded: oneshot::Sender<Result<ServerEngine, AttachError>>) {
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        let client = Client::new(self.config.url.clone(), stop.clone());
        let attached = tokio::select! {
            biased;
            () = self.leave.cancelled() => Err(AttachError::Abandoned),
            attached = probe::attach(&client, &self.config, &self.state) => attached,
        };
        let info = match attached {
            Ok(info) => info,
            Err(error) => return drop(loaded.send(Err(error))),
        };
        let (state, condition) = (Arc::clone(&self.state), self.condition.clone());
        let server = Server::new(&self.config, client, info, state, condition);
        let server = Arc::new(server);
        let engine = ServerEngine {
            server: Arc::clone(&server),
            queue: Arc::clone(&self.queue),
        };
        if loaded.send(Ok(engine)).is_ok() {
            tokio::select! {
                () = self.serve(&server, &stop) => {}
                () = probe::watch(&server) => {}
                () = recover::run(&server) => {}
            }
        }
        self.queue.set_run_state(RunState::Stop);
        for job in self.queue.take_overdue(Instant::now()) {
            job.refuse(&server, Instant::now());
        }
    }

    /// Starts queued requests until the queue is drained or stopped.
    async fn serve(&self, server: &Arc<Server>, stop: &CancellationToken) {
        loop {
            let now = Instant::now();
            for job in self.queue.take_overdue(now) {
                job.refuse(server, now);
            }
            match self.queue.run_state() {
                RunState::Serve => self.admit(server, stop),
                RunState::Drain if server.load.sequences() == 0 => return,
                RunState::Drain => {}
                RunState::Stop => return,
            }
            self.queue.woken(self.queue.next_deadline()).await;
        }
    }

    fn admit(&self, server: &Arc<Server>, stop: &CancellationToken) {
        loop {
            let free = self
                .config
                .limits
                .max_running
                .saturating_sub(server.load.sequences());
            let Some(job) = self.queue.take(free, |job| job.request.choices <= free) else {
                return;
            };
            let queue = Arc::clone(&self.queue);
            if server.load.sequences() == 0 {
                server.health.progressed();
            }
            let slot = server.load.start(
                job.request.choices,
                job.prompt_tokens.into(),
                Box::new(move || queue.wake()),
            );
            self.tasks
                .spawn(job.run(Arc::clone(server), slot, stop.clone()));
        }
    }
}

// === impl QueueHandle ===

impl ReaderEvents for QueueHandle {
    fn drained(&self) {
        // The request may have been cancelled while it is queued.
        self.queue.wake();
        self.reader_changed.notify_one();
    }

    fn disconnected(&self) {
        self.queue.leave(self.key);
        self.reader_changed.notify_one();
    }
}
