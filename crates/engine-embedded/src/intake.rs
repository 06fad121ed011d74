//! A request reserves a position in the queue; a large request is then prepared on another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use inferyard_chat::grammar::{Sandbox, SandboxError};
use inferyard_engine::event::{Event, Failure, FailureKind, Usage};
use inferyard_engine::queue::{Queue, QueueKey, Refused, Reservation, RunState};
use inferyard_engine::reply::{Events, ReaderEvents, Reply};
use inferyard_engine::request::Request;
use inferyard_engine::requests::{cancelled, deadline_passed, draining};
use inferyard_engine::state::{Outcome, State};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::job::{Job, Prepared};
use crate::load::Model;
use crate::prepare::{Attempt, schemas};

/// Takes requests and prepares them for the queue.
#[derive(Clone)]
pub(crate) struct Intake {
    queue: Arc<Queue<Job>>,
    state: Arc<State>,
    // One permit for each large request that may be prepared at the same time.
    workers: Arc<Semaphore>,
    // Before they have a permit.
    sandbox: Arc<Sandbox>,
    // Large requests that are being prepared, or wait for a permit.
    tasks: TaskTracker,
}

/// A request on its way into the queue.
struct Entrant {
    reply: Reply,
    deadline: Option<Instant>,
    reservation: Reservation<Job>,
    handle: Arc<QueueHandle>,
    queue: Arc<Queue<Job>>,
    state: Arc<State>,
}

/// How the client of one request reaches the engine.
struct QueueHandle {
    queue: Arc<Queue<Job>>,
    // Set once the request has joined the queue.
    key: OnceLock<QueueKey>,
    left: AtomicBool,
    // Notified when the client is gone, or the request was cancelled.
    changed: Notify,
}

// === impl Intake ===

impl Intake {
    /// An intake that has taken no request yet.
    pub(crate) fn new(queue: Arc<Queue<Job>>, state: Arc<State>, sandbox: Sandbox) -> Self {
        // The engine's own threads need the processor as well.
        let workers = (num_cpus::get() / 2).max(1);
        Self {
            queue,
            state,
            workers: Arc::new(Semaphore::new(workers)),
            sandbox: Arc::new(sandbox),
            tasks: TaskTracker::new(),
        }
    }

    /// Takes a request, unless the queue is full. A small one is prepared at once.
    ///
    /// # Errors
    ///
    /// The queue is full, the worker drains, or the deadline has passed. All other refusals are events.
    pub(crate) fn take(&self, model: &Arc<Model>, request: Request) -> Result<Events, Failure> {
        if request
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(deadline_passed());
        }
        let reservation = self.queue.reserve(request.estimated_prompt_tokens());
        let reservation = reservation.map_err(Refused::failure)?;
        let handle = Arc::new(QueueHandle::new(Arc::clone(&self.queue)));
        let (reply, events) = Reply::channel(Arc::<QueueHandle>::clone(&handle));
        let entrant = Entrant {
            reply,
            deadline: request.deadline,
            reservation,
            handle,
            queue: Arc::clone(&self.queue),
            state: Arc::clone(&self.state),
        };
        if model.is_big(&request) {
            let (model, workers) = (Arc::clone(model), Arc::clone(&self.workers));
            let sandbox = Arc::clone(&self.sandbox);
            self.tasks
                .spawn(entrant.run(model, request, workers, sandbox));
        } else {
            entrant.prepare(model, request);
        }
        Ok(events)
    }

    /// Waits until nothing is being prepared any longer, once the queue takes nothing more.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

// === impl Entrant ===

impl Entrant {
    /// Whether it still makes sense to prepare the request; asked between two pieces of work.
    ///
    /// # Errors
    ///
    /// The reader is gone, or the request is cancelled, overdue, or shut out by the end of the worker.
    fn go_on(&self) -> Result<(), Failure> {
        if self.reply.is_cancelled() || self.reply.is_abandoned() {
            return Err(cancelled());
        }
        if self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            return Err(deadline_passed());
        }
        match self.queue.run_state() {
            RunState::Serve => Ok(()),
            RunState::Drain | RunState::Stop => Err(draining()),
        }
    }

    /// Prepares a large request once its schemas are known to compile and it has a permit.
    async fn run(
        self,
        model: Arc<Model>,
        request: Request,
        workers: Arc<Semaphore>,
        sandbox: Arc<Sandbox>,
    ) {
        let turn = async {
            let schemas = schemas(&request);
            sandbox.admit(&schemas).await.map_err(not_admitted)?;
            workers.acquire_owned().await.map_err(|_| draining())
        };
        let turn = tokio::select! {
            turn = turn => turn,
            failure = self.over() => Err(failure),
        };
        match turn {
            Ok(turn) => {
                let prepared = tokio::task::spawn_blocking(move || {
                    self.prepare(&model, request);
                    drop(turn);
                });
                // Where it panics, the reader's channel closes, and the panic is in the log.
                let _ = prepared.await;
            }
            Err(failure) => self.fail(failure),
        }
    }

    /// Waits until preparing the request makes no sense any longer, and says why.
    async fn over(&self) -> Failure {
        loop {
            if let Err(failure) = self.go_on() {
                return failure;
            }
            match self.deadline {
                None => self.handle.changed.notified().await,
                Some(deadline) => tokio::select! {
                    () = self.handle.changed.notified() => {}
                    () = sleep_until(deadline) => {}
                },
            }
        }
    }

    /// Prepares the request, and lets it join the queue.
    fn prepare(self, model: &Model, request: Request) {
        let attempt = Attempt {
            go_on: &|| self.go_on(),
            tokenizes: &|bytes| self.state.tokenizes(bytes),
        };
        let prepared = self.go_on().and_then(|()| model.prepare(request, &attempt));
        match prepared {
            Ok(prepared) => self.join(prepared),
            Err(failure) => self.fail(failure),
        }
    }

    fn join(self, prepared: Prepared) {
        let Self {
            reply,
            reservation,
            handle,
            queue,
            state,
            ..
        } = self;
        let mut reply = Some(reply);
        let joined = reservation.join(prepared.priority, |key| {
            // Set under the lock of the queue, so that a client that disconnects later finds the key.
            let _ = handle.key.set(key);
            Job {
                prepared,
                reply: reply.take().expect("a job should be made once"),
            }
        });
        match (joined, reply) {
            (Err(refused), Some(reply)) => end(reply, &state, refused.failure()),
            _ if handle.left.load(Ordering::SeqCst) => {
                // A client that disconnected before the key was set could not remove the job; it is removed here.
                if let Some(key) = handle.key.get() {
                    queue.leave(*key);
                }
            }
            _ => {}
        }
    }

    fn fail(self, failure: Failure) {
        end(self.reply, &self.state, failure);
    }
}

fn not_admitted(error: SandboxError) -> Failure {
    let message = error.to_string();
    match error {
        SandboxError::TooMuch { path } => Failure::invalid(path, message),
        SandboxError::Broken(_) => Failure::new(FailureKind::Internal, message),
    }
}

/// Ends a request that was never queued.
fn end(reply: Reply, state: &State, failure: Failure) {
    let outcome = if reply.is_abandoned() {
        Outcome::Disconnected
    } else {
        Outcome::Failed(failure.kind)
    };
    state.count(outcome, Usage::default());
    reply.end(Event::Failed(failure));
}

// === impl QueueHandle ===

impl QueueHandle {
    fn new(queue: Arc<Queue<Job>>) -> Self {
        Self {
            queue,
            key: OnceLock::new(),
            left: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }
}

impl ReaderEvents for QueueHandle {
    fn drained(&self) {
        self.queue.wake();
        self.changed.notify_one();
    }

    fn disconnected(&self) {
        self.left.store(true, Ordering::SeqCst);
        if let Some(key) = self.key.get() {
            self.queue.leave(*key);
        }
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
