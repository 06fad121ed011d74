//! The workers of one model: what is known of them, and the way to each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use inferyard_placement::recording::Event;
use inferyard_placement::{
    Charge, Gap, Line, Moment, Outcome, Pool, Standing, State, Ticket, WaiterId, Weights, WorkerId,
};
use tokio::time::Instant;

use super::recorder::Recorder;
use super::worker::Worker;
use crate::place::PlaceError;
use inferyard_catalog::{Endpoint, Model};

mod line;
mod slot;
mod wait;

pub(super) use line::Found;
pub(crate) use slot::Slot;

use line::Waiting;

/// The workers of one model.
pub(crate) struct Crew {
    /// The id of the model.
    model: Arc<str>,
    /// What the workers call it.
    name: Arc<str>,
    began: Instant,
    recorder: Option<Arc<Recorder>>,
    /// Itself, for the slots that it gives.
    this: Weak<Self>,
    inner: Mutex<Inner>,
}

/// What the workers of a model say of the lengths of prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    /// Tokens of prompt and answer together that some worker takes; `None`: none has said so yet.
    pub(crate) context: Option<u64>,
    /// Tokens that the chat template adds to a conversation. Workers that tell it render and count a prompt
    /// before they compute it; `None`: some worker does not tell.
    pub(crate) template: Option<u64>,
}

struct Inner {
    pool: Pool,
    workers: HashMap<WorkerId, Arc<Worker>>,
    line: Line,
    /// Everybody in the line.
    waiting: HashMap<WaiterId, Waiting>,
}

// === impl Crew ===

impl Crew {
    /// Nobody yet; moments are counted from `began`.
    pub(super) fn new(
        model: &Model,
        began: Instant,
        seed: u64,
        recorder: Option<Arc<Recorder>>,
    ) -> Arc<Self> {
        let inner = Inner {
            pool: Pool::new(Arc::clone(&model.id), Weights::default(), seed),
            workers: HashMap::new(),
            line: Line::default(),
            waiting: HashMap::new(),
        };
        Arc::new_cyclic(|this| Self {
            model: Arc::clone(&model.id),
            name: Arc::clone(&model.name),
            began,
            recorder,
            this: Weak::clone(this),
            inner: Mutex::new(inner),
        })
    }

    /// Whether it is of this model, and its workers still call it by the same name.
    pub(super) fn serves(&self, model: &Model) -> bool {
        (&self.model, &self.name) == (&model.id, &model.name)
    }

    /// Takes in new workers, and lets go of those that are not named any longer: their answers go on.
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

    /// Nobody is named any longer, and nobody waits for them.
    pub(super) fn disband(self: &Arc<Self>) {
        self.update(&[], |_, _, _| unreachable!("nobody should join"));
        let mut inner = self.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        for id in waiting.keys() {
            inner.line.leave(*id);
        }
        drop(inner);
        drop(waiting);
    }

    /// A worker said how it is.
    pub(super) fn state(&self, worker: WorkerId, mut state: State) -> Result<(), Gap> {
        if *state.model == *self.name {
            // The pool, and recordings of it, know models by their ids.
            (*self.model).clone_into(&mut state.model);
        }
        let mut inner = self.lock();
        let now = self.now();
        self.record(now, |recorder| Event::State {
            worker: worker.number(),
            state: recorder.blinding.hide_state(&state),
        });
        inner.pool.state(worker, state, now)?;
        let news = self.call(&mut inner, worker, now);
        drop(inner);
        news.tell();
        Ok(())
    }

    /// A worker is silent.
    pub(super) fn lost(&self, worker: WorkerId) {
        let mut inner = self.lock();
        inner.pool.lost(worker);
        let worker = worker.number();
        self.record(self.now(), |_| Event::Lost { worker });
    }

    /// The worker had no room for a request after all.
    pub(super) fn refused(&self, ticket: Ticket, charge: Option<&Charge>) {
        let mut inner = self.lock();
        let now = self.now();
        inner.pool.refused(ticket, now);
        let serial = ticket.serial();
        self.record(now, |_| Event::Refused { serial });
        if let Some(charge) = charge {
            inner.line.refused(charge);
        }
    }

    /// The first token of a request is there.
    pub(super) fn begun(&self, ticket: Ticket) {
        let mut inner = self.lock();
        let now = self.now();
        inner.pool.begun(ticket);
        let serial = ticket.serial();
        self.record(now, |_| Event::Begun { serial });
        let news = self.call(&mut inner, ticket.worker(), now);
        drop(inner);
        news.tell();
    }

    /// A request has ended, after so many tokens.
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
        let ejected = |inner: &Inner| inner.pool.standing(worker) == Standing::Ejected;
        let before = ejected(&inner);
        inner.pool.ended(ticket, outcome, now);
        if ejected(&inner) != before {
            inner.say_ejected(worker, !before);
        }
        let serial = ticket.serial();
        self.record(now, |_| Event::Ended { serial, outcome });
        if let Some(charge) = charge {
            inner.line.ended(charge, answer_tokens);
        }
        let news = self.call(&mut inner, ticket.worker(), now);
        drop(inner);
        news.tell();
    }

    /// What the workers say of the lengths of prompts.
    pub(super) fn lengths(&self) -> Lengths {
        let inner = self.lock();
        Lengths {
            context: inner.pool.context_length(),
            template: inner.pool.template_tokens(),
        }
    }

    /// Whether some worker is ready, or ejected: that one gets requests where no other worker takes them.
    pub(crate) fn is_ready(&self) -> bool {
        let inner = self.lock();
        let mut workers = inner.workers.keys();
        let serves = |standing| matches!(standing, Standing::Ready | Standing::Ejected);
        workers.any(|worker| serves(inner.pool.standing(*worker)))
    }

    /// Every worker with what it is doing.
    pub(crate) fn standings(&self) -> Vec<(Arc<Worker>, Standing)> {
        let inner = self.lock();
        let standing = |(id, worker): (&WorkerId, &Arc<Worker>)| {
            (Arc::clone(worker), inner.pool.standing(*id))
        };
        let mut all: Vec<_> = inner.workers.iter().map(standing).collect();
        drop(inner);
        all.sort_by(|(one, _), (other, _)| one.endpoint().cmp(other.endpoint()));
        all
    }

    /// Called while the lock is held, so that the order of lines is the order of what happened.
    fn record(&self, now: Moment, event: impl FnOnce(&Recorder) -> Event) {
        if let Some(recorder) = &self.recorder {
            recorder.write(now, &self.model, event(recorder));
        }
    }

    /// In whole microseconds, as recordings have it.
    fn now(&self) -> Moment {
        let us = self.began.elapsed().as_micros();
        Moment::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    /// Why nobody could take a request.
    fn none_ready(&self) -> PlaceError {
        let standings = self.workers.keys().map(|id| self.pool.standing(*id));
        let progress = standings.filter_map(|standing| match standing {
            Standing::Loading { progress } => Some(progress),
            Standing::Ready
            | Standing::Ejected
            | Standing::Unhealthy
            | Standing::Draining
            | Standing::OtherModel { .. }
            | Standing::Unreachable => None,
        });
        match progress.max_by(f32::total_cmp) {
            Some(progress) => PlaceError::Loading { progress },
            None => PlaceError::NoWorker,
        }
    }

    /// For the log: a worker that failed requests in a row gets no more for a while, or gets them again.
    fn say_ejected(&self, worker: WorkerId, ejected: bool) {
        if let Some(worker) = self.workers.get(&worker) {
            let worker = worker.endpoint();
            if ejected {
                tracing::warn!(%worker, "a worker failed requests in a row; others get them for a while");
            } else {
                tracing::info!(%worker, "a worker answers requests again");
            }
        }
    }

    fn any_ready(&self) -> bool {
        let mut workers = self.workers.keys();
        workers.any(|id| {
            let standing = self.pool.standing(*id);
            matches!(
                standing,
                Standing::Ready | Standing::Ejected | Standing::Unhealthy
            )
        })
    }
}
