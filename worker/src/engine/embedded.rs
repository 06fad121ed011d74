//! A model in this process: llama.cpp on one thread that owns model and cache.

mod load;
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

use crate::admit::{Orders, Place, Queue, Refused};
use crate::config::Config;
use crate::engine::reply::{Events, Reader, Reply};
use crate::event::{Failure, FailureKind};
use crate::request::Request;
use crate::state::{Capacity, State};

pub use load::LoadError;
use load::Model;
use prepare::{Job, Prepared};

/// From this size on a prompt is rendered and tokenized where it blocks no other request.
const BIG_PROMPT: usize = 16 * 1024;

/// An engine whose model is loaded.
#[derive(Clone)]
pub(crate) struct Embedded {
    model: Arc<Model>,
    queue: Arc<Queue<Job>>,
}

/// An engine that is being started, runs, and ends; held by whoever answers for it.
pub(crate) struct Thread {
    queue: Arc<Queue<Job>>,
    loaded: Option<oneshot::Receiver<Result<Arc<Model>, LoadError>>>,
    // Its sender lives as long as the thread does.
    ended: oneshot::Receiver<()>,
}

/// Lives as long as the engine's thread: nobody shall wait for a thread that is gone.
struct Last {
    queue: Arc<Queue<Job>>,
    _end: oneshot::Sender<()>,
}

/// One request's reader, as the engine knows it.
struct Seat {
    queue: Arc<Queue<Job>>,
    place: Place,
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
            loaded: Some(loaded),
            ended,
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
            queue: Arc::clone(&self.queue),
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

    /// Waits until the thread has ended.
    pub(crate) async fn ended(&mut self) {
        // Nothing is ever sent: the error is the news.
        let _ = (&mut self.ended).await;
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
    /// Dropping the events ends the request before its next token.
    pub(crate) async fn generate(&self, request: Request) -> Result<Events, Failure> {
        let prepared = if request.needs_thought() {
            let model = Arc::clone(&self.model);
            let task = tokio::task::spawn_blocking(move || model.prepare(request));
            task.await.map_err(|_| {
                Failure::new(FailureKind::Internal, "the request could not be prepared")
            })??
        } else {
            self.model.prepare(request)?
        };
        self.join(prepared)
    }

    /// What it can do.
    pub(crate) fn capacity(&self) -> Capacity {
        self.model.capacity()
    }

    fn join(&self, prepared: Prepared) -> Result<Events, Failure> {
        let mut reader = None;
        let joined = self.queue.join(prepared.priority, |place| {
            let seat = Seat {
                queue: Arc::clone(&self.queue),
                place,
            };
            let (reply, events) = Reply::channel(Arc::new(seat));
            reader = Some(events);
            Job { prepared, reply }
        });
        match (joined, reader) {
            (Ok(()), Some(events)) => Ok(events),
            (Err(refused), _) => Err(refused.failure()),
            (Ok(()), None) => Err(Refused::Draining.failure()),
        }
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

// === impl Seat ===

impl Reader for Seat {
    fn caught_up(&self) {
        self.queue.wake();
    }

    fn left(&self) {
        self.queue.leave(self.place);
    }
}
