//! The endpoint pool of one model: its workers, their state, and its queue.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use inferyard_domain::ModelId;
use inferyard_placement::recording::Event;
use inferyard_placement::{
    Charge, EndpointState, Gap, Moment, Outcome, Pool, PromptLengths, Queue, State, Ticket,
    WaiterId, Weights, WorkerId,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::recorder::Recorder;
use super::worker::Worker;
use crate::place::PlaceError;
use inferyard_catalog::{Endpoint, Model};

mod queue;
mod slot;
mod wait;

pub(super) use queue::Found;
pub(crate) use slot::Slot;

use queue::Waiting;

/// The workers of one model, and the requests that wait for one.
pub struct EndpointPool {
    /// The id of the model.
    model: ModelId,
    /// The model's name at the workers.
    name: Arc<str>,
    began: Instant,
    recorder: Option<Arc<Recorder>>,
    /// Weak reference to itself, for the slots.
    this: Weak<Self>,
    inner: Mutex<Inner>,
}

struct Inner {
    pool: Pool,
    workers: HashMap<WorkerId, Arc<Worker>>,
    queue: Queue,
    /// How to reach each request in `queue`.
    waiting: HashMap<WaiterId, Waiting>,
}

// === impl EndpointPool ===

impl EndpointPool {
    /// A pool without endpoints; `began` is the origin of its moments.
    pub(super) fn new(
        model: &Model,
        began: Instant,
        seed: u64,
        recorder: Option<Arc<Recorder>>,
    ) -> Arc<Self> {
        let inner = Inner {
            pool: Pool::new(model.id.shared(), Weights::default(), seed),
            workers: HashMap::new(),
            queue: Queue::default(),
            waiting: HashMap::new(),
        };
        Arc::new_cyclic(|this| Self {
            model: model.id.clone(),
            name: Arc::clone(&model.name),
            began,
            recorder,
            this: Weak::clone(this),
            inner: Mutex::new(inner),
        })
    }

    /// Whether it is of this model, under the same name at the workers.
    pub(super) fn serves(&self, model: &Model) -> bool {
        (&self.model, &self.name) == (&model.id, &model.name)
    }

    /// Adds new endpoints, and removes those that are no longer declared; their answers go on.
    pub(super) fn update(
        self: &Arc<Self>,
        endpoints: &[Endpoint],
        mut start: impl FnMut(&Arc<Self>, WorkerId, &Endpoint) -> Arc<Worker>,
    ) {
        let mut inner = self.lock();
        let now = self.now();
        let Inner { pool, workers, .. } = &mut *inner;
        workers.retain(|id, worker| {
            let stays = endpoints.contains(worker.endpoint());
            if !stays {
                worker.leave();
                pool.leave(*id);
                let worker = id.number();
                self.record(now, |_| Event::Left { worker });
            }
            stays
        });
        for endpoint in endpoints {
            if !workers.values().any(|worker| worker.endpoint() == endpoint) {
                let name = endpoint.to_string();
                let id = pool.join(name.as_str().into());
                workers.insert(id, start(self, id, endpoint));
                let worker = id.number();
                self.record(now, |_| Event::Joined { worker, name });
            }
        }
    }

    /// Removes all endpoints, and refuses the requests that wait for them.
    pub(super) fn disband(self: &Arc<Self>) {
        self.update(&[], |_, _, _| unreachable!("nobody should join"));
        let mut inner = self.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        for id in waiting.keys() {
            inner.queue.leave(*id);
        }
        drop(inner);
        drop(waiting);
    }

    /// Takes a state that a worker sent.
    ///
    /// # Errors
    ///
    /// [`Gap`] if a message before it is missing; the stream must be opened again.
    pub(super) fn state(&self, worker: WorkerId, mut state: State) -> Result<(), Gap> {
        if *state.model == *self.name {
            // The pool and its recordings use the model's id, not the name at the workers.
            (*self.model).clone_into(&mut state.model);
        }
        let mut inner = self.lock();
        let now = self.now();
        self.record(now, |recorder| Event::State {
            worker: worker.number(),
            state: recorder.blinding.hide_state(&state),
        });
        inner.pool.state(worker, state, now)?;
        let wakeups = self.call(&mut inner, worker, now);
        drop(inner);
        wakeups.notify();
        Ok(())
    }

    /// The stream of states of a worker broke.
    pub(super) fn lost(&self, worker: WorkerId) {
        let mut inner = self.lock();
        inner.pool.lost(worker);
        let worker = worker.number();
        self.record(self.now(), |_| Event::Lost { worker });
    }

    /// The worker refused a request for want of room.
    pub(super) fn refused(&self, ticket: Ticket, charge: Option<&Charge>) {
        let mut inner = self.lock();
        let now = self.now();
        inner.pool.refused(ticket, now);
        let serial = ticket.serial();
        self.record(now, |_| Event::Refused { serial });
        if let Some(charge) = charge {
            inner.queue.refused(charge);
        }
    }

    /// The first token of a request arrived.
    pub(super) fn begun(&self, ticket: Ticket) {
        let mut inner = self.lock();
        let now = self.now();
        inner.pool.begun(ticket);
        let serial = ticket.serial();
        self.record(now, |_| Event::Begun { serial });
        let wakeups = self.call(&mut inner, ticket.worker(), now);
        drop(inner);
        wakeups.notify();
    }

    /// A request ended after `answer_tokens` tokens of answer.
    pub(super) fn ended(
        &self,
        ticket: Ticket,
        charge: Option<&Charge>,
        answer_tokens: u64,
        outcome: Outcome,
    ) {
        let mut inner = self.lock();
        let now = self.now();
        let worker = ticket.worker();
        let ejected = |inner: &Inner| inner.pool.endpoint_state(worker) == EndpointState::Ejected;
        let before = ejected(&inner);
        inner.pool.ended(ticket, outcome, now);
        if ejected(&inner) != before {
            inner.say_ejected(worker, !before);
        }
        let serial = ticket.serial();
        self.record(now, |_| Event::Ended { serial, outcome });
        if let Some(charge) = charge {
            inner.queue.ended(charge, answer_tokens);
        }
        let wakeups = self.call(&mut inner, ticket.worker(), now);
        drop(inner);
        wakeups.notify();
    }

    /// Limits on prompt lengths, as the workers report them.
    pub(super) fn lengths(&self) -> PromptLengths {
        let inner = self.lock();
        PromptLengths {
            context: inner.pool.context_length(),
            template: inner.pool.template_tokens(),
        }
    }

    /// Whether any worker is ready or ejected; an ejected one takes requests if no other worker does.
    pub fn is_ready(&self) -> bool {
        let inner = self.lock();
        let mut workers = inner.workers.keys();
        let serves = |state| matches!(state, EndpointState::Ready | EndpointState::Ejected);
        workers.any(|worker| serves(inner.pool.endpoint_state(*worker)))
    }

    /// Every worker with its state, sorted by endpoint.
    pub fn states(&self) -> Vec<(Arc<Worker>, EndpointState)> {
        let inner = self.lock();
        let state = |(id, worker): (&WorkerId, &Arc<Worker>)| {
            (Arc::clone(worker), inner.pool.endpoint_state(*id))
        };
        let mut all: Vec<_> = inner.workers.iter().map(state).collect();
        drop(inner);
        all.sort_by(|(one, _), (other, _)| one.endpoint().cmp(other.endpoint()));
        all
    }

    /// Called with the lock held, so that the recording keeps the order of events.
    fn record(&self, now: Moment, event: impl FnOnce(&Recorder) -> Event) {
        if let Some(recorder) = &self.recorder {
            recorder.write(now, &self.model, event(recorder));
        }
    }

    /// The time since `began`, in whole microseconds as in recordings.
    fn now(&self) -> Moment {
        let us = self.began.elapsed().as_micros();
        Moment::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

// === impl Inner ===

impl Inner {
    /// The error if no worker can take a request.
    fn none_ready(&self) -> PlaceError {
        let states = self.workers.keys().map(|id| self.pool.endpoint_state(*id));
        let progress = states.filter_map(|state| match state {
            EndpointState::Loading { progress } => Some(progress),
            EndpointState::Ready
            | EndpointState::Ejected
            | EndpointState::Unhealthy
            | EndpointState::Draining
            | EndpointState::OtherModel { .. }
            | EndpointState::Unreachable => None,
        });
        match progress.max_by(f32::total_cmp) {
            Some(progress) => PlaceError::Loading { progress },
            None => PlaceError::NoWorker,
        }
    }

    /// Logs that a worker is ejected, or takes requests again.
    fn say_ejected(&self, worker: WorkerId, ejected: bool) {
        if let Some(worker) = self.workers.get(&worker) {
            let worker = worker.endpoint();
            if ejected {
                tracing::warn!(%worker, "a worker failed several requests in a row and is ejected");
            } else {
                tracing::info!(%worker, "a worker is no longer ejected");
            }
        }
    }

    fn any_ready(&self) -> bool {
        let mut workers = self.workers.keys();
        workers.any(|id| {
            let state = self.pool.endpoint_state(*id);
            matches!(
                state,
                EndpointState::Ready | EndpointState::Ejected | EndpointState::Unhealthy
            )
        })
    }
}
