//! A model in this process: llama.cpp on one thread that owns model and cache.

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

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admit::{Orders, Queue};
use crate::config::Config;
use crate::engine::reply::Events;
use crate::event::Failure;
use crate::grammar::Sandbox;
use crate::request::Request;
use crate::state::{Capacity, State};

use intake::Intake;
use job::Job;
pub use load::LoadError;
use load::Model;

/// An engine whose model is loaded.
#[derive(Clone)]
pub(crate) struct Embedded {
    model: Arc<Model>,
    intake: Intake,
}

/// An engine that is being started, runs, and ends; held by whoever answers for it.
pub(crate) struct Thread {
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

// === impl Thread ===

impl Thread {
    /// Starts the engine's thread, which loads the model and then serves it.
    pub(crate) fn start(config: Config, gguf: PathBuf, state: Arc<State>) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(
            config.max_queued,
            config.max_running,
            Arc::clone(&state),
        ));
        let (load, loaded) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let sandbox = Sandbox::new(config.schema_sandbox.clone());
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
                step::serve(&config, &gguf, &state, &for_thread, load);
            })?;
        Ok(Self {
            queue,
            intake,
            loaded: Some(loaded),
            ended,
            is_over: false,
        })
    }

    /// Waits until the model is loaded.
    pub(crate) async fn loaded(&mut self) -> Result<Embedded, LoadError> {
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

    /// Lets running requests finish, refuses all others, and ends the thread after that.
    pub(crate) fn drain(&self) {
        self.queue.order(Orders::Drain);
    }

    /// Ends the thread now; running requests fail.
    pub(crate) fn stop(&self) {
        self.queue.order(Orders::Stop);
    }

    /// Waits until the thread has ended, and nothing is prepared for it any longer.
    pub(crate) async fn ended(&mut self) {
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

impl Embedded {
    /// Takes a request; its events come as the engine produces them.
    ///
    /// # Cancellation
    ///
    /// Dropping the events ends the request before its next token, or before the next piece of its
    /// prompt is tokenized.
    pub(crate) fn generate(&self, request: Request) -> Result<Events, Failure> {
        self.intake.take(&self.model, request)
    }

    /// What it can do.
    pub(crate) fn capacity(&self) -> Capacity {
        self.model.capacity()
    }
}

// === impl Last ===

impl Drop for Last {
    fn drop(&mut self) {
        self.queue.order(Orders::Stop);
        // With the jobs go their channels, and their readers see it.
        drop(self.queue.take_overdue(Instant::now()));
    }
}
