//! A model in this process: llama.cpp on one thread that owns model and cache.

mod config;
mod load;
mod job;
mod intake;
mod tokenize;
mod prepare;
mod step;
mod kv;
mod schedule;
mod sample;
mod choice;

use std::io;
use std::sync::Arc;

use inferyard_chat::grammar::Sandbox;
use inferyard_engine::event::Failure;
use inferyard_engine::queue::{Queue, RunState};
use inferyard_engine::reply::Events;
use inferyard_engine::request::Request;
use inferyard_engine::state::{Capacity, State};
use inferyard_engine::{Engine, EngineHandle, StartEngine};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use config::{Config, MAX_RUNNING};
use intake::Intake;
use job::Job;
pub use load::LoadError;
use load::Model;

/// An engine whose model is loaded.
#[derive(Clone)]
pub struct Embedded {
    model: Arc<Model>,
    intake: Intake,
}

/// The engine's thread: it loads the model, serves it and ends.
pub struct Thread {
    queue: Arc<Queue<Job>>,
    intake: Intake,
    loaded: Option<oneshot::Receiver<Result<Arc<Model>, LoadError>>>,
    // Its sender lives as long as the thread does.
    ended: oneshot::Receiver<()>,
    is_over: bool,
}

/// Lives as long as the engine's thread: nobody shall wait for a thread that is gone.
struct Last {
    queue: Arc<Queue<Job>>,
    _end: oneshot::Sender<()>,
}

// === impl Config ===

impl StartEngine for Config {
    type Handle = Thread;

    /// Starts the engine's thread, which loads the model and then serves it.
    fn start(self, state: Arc<State>) -> io::Result<Thread> {
        let queue = Arc::new(Queue::new(
            self.limits.max_queued,
            self.limits.max_running,
            Arc::clone(&state),
        ));
        let (load, loaded) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let sandbox = Sandbox::new(self.schema_sandbox.clone());
        let intake = Intake::new(Arc::clone(&queue), Arc::clone(&state), sandbox);
        let for_thread = Arc::clone(&queue);
        let last = Last {
            queue: Arc::clone(&queue),
            _end: end,
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                // Dropped at the end of the thread, however it ends.
                let _last = last;
                step::serve(&self, &state, &for_thread, load);
            })?;
        Ok(Thread {
            queue,
            intake,
            loaded: Some(loaded),
            ended,
            is_over: false,
        })
    }
}

impl EngineHandle for Thread {
    type Engine = Embedded;
    type LoadError = LoadError;

    async fn loaded(&mut self) -> Result<Embedded, LoadError> {
        let loaded = match self.loaded.as_mut() {
            Some(loaded) => loaded.await.unwrap_or(Err(LoadError::Abandoned)),
            None => Err(LoadError::Abandoned),
        };
        self.loaded = None;
        loaded.map(|model| Embedded {
            model,
            intake: self.intake.clone(),
        })
    }

    /// The engine serves until it ends.
    async fn health_changed(&mut self) -> Option<bool> {
        self.ended().await;
        None
    }

    fn drain(&self) {
        self.queue.set_run_state(RunState::Drain);
    }

    fn stop(&self) {
        self.queue.set_run_state(RunState::Stop);
    }

    /// Waits until the thread has ended, and nothing is prepared for it any longer.
    async fn ended(&mut self) {
        if !self.is_over {
            // Nothing is ever sent: the error is the news.
            let _ = (&mut self.ended).await;
            self.is_over = true;
        }
        self.intake.ended().await;
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Embedded ===

impl Engine for Embedded {
    /// # Cancellation
    ///
    /// Dropping the events ends the request before its next token, or before the next piece of its
    /// prompt is tokenized.
    fn generate(&self, request: Request) -> Result<Events, Failure> {
        self.intake.take(&self.model, request)
    }

    fn capacity(&self) -> Capacity {
        self.model.capacity()
    }
}

// === impl Last ===

impl Drop for Last {
    fn drop(&mut self) {
        self.queue.set_run_state(RunState::Stop);
        // With the jobs go their channels, and their readers see it.
        drop(self.queue.take_overdue(Instant::now()));
    }
}
