//! A server beside the worker that speaks OpenAI's API: vLLM, SGLang, llama.cpp, or any other.
//!
//! # A request's way
//!
//! ```text
//!  ask        the client's own bytes and our fields become the server's body
//!  admit      it waits for its place, as in front of every engine
//!  exchange   a connection of its own; dropped, it cancels the server's work
//!   sse        bytes → lines
//!   chunk      a line → what is in it, without a tree; `wide` is text that may be cut within a character
//!   answer     chunks → events, tokens counted; `calls` makes one form of all forms of tool calls
//!   refusal    the server's errors in our own words
//! ```
//!
//! Beside it, `probe` waits for the server, asks it once a second whether it is up, and reads its
//! `figures`; `health` counts failures in a row, and `recover` has a server that fails prove itself before
//! it is used again; `busy` tells `state` what it has to do, and `held` which prefixes its cache may have.

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
use inferyard_engine::queue::{Orders, Place, Queue, Refused};
use inferyard_engine::reply::{Events, Reader, Reply};
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
use upstream_request::Ask;
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
    // Nobody waits for the engine to come up any longer.
    leave: CancellationToken,
    tasks: TaskTracker,
}

/// The task that serves the line.
struct Life {
    config: Config,
    queue: Arc<Queue<Job>>,
    state: Arc<State>,
    condition: watch::Sender<Condition>,
    leave: CancellationToken,
    tasks: TaskTracker,
}

/// One request's reader, as the engine knows it.
struct Seat {
    queue: Arc<Queue<Job>>,
    place: Place,
    hears: Arc<Notify>,
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
        let life = Life {
            config: self,
            queue: Arc::clone(&queue),
            state,
            condition: turn,
            leave: leave.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(life.run(load));
        // So that waiting for them ends; they still can be joined by others.
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
        self.queue.order(Orders::Drain);
        self.leave.cancel();
    }

    fn stop(&self) {
        self.queue.order(Orders::Stop);
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
        // One that fails is asked all the same, where no other worker can be.
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
        let ask = Ask::new(request, &server.model, server.dialect, knows_priority)?;
        let prompt_tokens = match ask.prompt_tokens {
            Some(tokens) => {
                let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                check_price(ask.max_prompt_tokens, tokens)?;
                tokens
            }
            None => server.busy.estimate(ask.prompt_bytes),
        };
        let mut reader = None;
        let joined = self.queue.join(ask.priority, |place| {
            let hears = Arc::new(Notify::new());
            let seat = Seat {
                queue: Arc::clone(&self.queue),
                place,
                hears: Arc::clone(&hears),
            };
            let (reply, events) = Reply::channel(Arc::new(seat));
            reader = Some(events);
            Job {
                ask,
                prompt_tokens,
                reply,
                hears,
            }
        });
        joined.map_err(Refused::failure)?;
        reader.ok_or_else(|| Refused::Draining.failure())
    }

    fn capacity(&self) -> Capacity {
        self.server.capacity
    }
}

// === impl Life ===

impl Life {
    async fn run(self, loaded: oneshot::Sender<Result<ServerEngine, AttachError>>) {
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        let client = Client::new(self.config.url.clone(), stop.clone());
        let attached = tokio::select! {
            biased;
            () = self.leave.cancelled() => Err(AttachError::Abandoned),
            attached = probe::attach(&client, &self.config, &self.state) => attached,
        };
        let known = match attached {
            Ok(known) => known,
            Err(error) => return drop(loaded.send(Err(error))),
        };
        let (state, condition) = (Arc::clone(&self.state), self.condition.clone());
        let server = Server::new(&self.config, client, known, state, condition);
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
        self.queue.order(Orders::Stop);
        for job in self.queue.take_overdue(Instant::now()) {
            job.refuse(&server, Instant::now());
        }
    }

    /// Gives requests their places until the queue says otherwise.
    async fn serve(&self, server: &Arc<Server>, stop: &CancellationToken) {
        loop {
            let now = Instant::now();
            for job in self.queue.take_overdue(now) {
                job.refuse(server, now);
            }
            match self.queue.orders() {
                Orders::Serve => self.admit(server, stop),
                Orders::Drain if server.busy.sequences() == 0 => return,
                Orders::Drain => {}
                Orders::Stop => return,
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
                .saturating_sub(server.busy.sequences());
            let Some(job) = self.queue.take(free, |job| job.ask.choices <= free) else {
                return;
            };
            let queue = Arc::clone(&self.queue);
            if server.busy.sequences() == 0 {
                server.health.progressed();
            }
            let slot = server.busy.place(
                job.ask.choices,
                job.prompt_tokens.into(),
                Box::new(move || queue.wake()),
            );
            self.tasks
                .spawn(job.run(Arc::clone(server), slot, stop.clone()));
        }
    }
}

// === impl Seat ===

impl Reader for Seat {
    fn caught_up(&self) {
        // It may have been cancelled while it waits in the line.
        self.queue.wake();
        self.hears.notify_one();
    }

    fn left(&self) {
        self.queue.leave(self.place);
        self.hears.notify_one();
    }
}
