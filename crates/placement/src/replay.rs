//! Repeats the decisions of a recording with the same code, with the recorded or with other weights.

use std::collections::HashMap;

use crate::recording::{Entry, Event, RecordedWork};
use crate::{Candidate, Gap, Moment, Pool, State, Ticket, Verdict, Weights, WorkerId};

/// A replay in progress.
pub struct Replay {
    weights: Weights,
    seed: u64,
    pools: HashMap<String, Replayed>,
    candidates: Vec<Candidate>,
    report: Report,
}

/// The result of a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that were placed.
    pub decisions: u64,
    /// Requests that go to another worker in the replay.
    pub differing: Vec<Differing>,
    /// Sum of expected seconds to the first token over all decisions: recorded, replayed.
    pub seconds: (f64, f64),
    /// Sum of cached prompt blocks where the requests went: recorded, replayed.
    pub cached_blocks: (u64, u64),
    /// Prompt blocks in all.
    pub blocks: u64,
}

/// A request that goes to another worker in the replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Differing {
    /// The request's id.
    pub request: String,
    /// The address of the worker that got it.
    pub was: String,
    /// The address of the worker that the replay chose.
    pub is: String,
}

/// Why a recording cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It names a worker that has not joined.
    #[error("worker {0} is not known: the recording is not whole")]
    UnknownWorker(u64),
    /// A state message is missing.
    #[error("a message of worker {worker} is missing: {gap}")]
    Gap {
        /// The number of the worker.
        worker: u64,
        /// The gap in its messages.
        gap: Gap,
    },
    /// The recorded worker was not able to take the request.
    #[error("request {0} went to a worker that was not ready")]
    Unready(String),
}

struct Replayed {
    pool: Pool,
    workers: HashMap<u64, (WorkerId, String)>,
    open: HashMap<u64, Ticket>,
}

// === impl Replay ===

impl Replay {
    /// A replay with these weights and the recorded seed.
    #[must_use]
    pub fn new(weights: Weights, seed: u64) -> Self {
        Self {
            weights,
            seed,
            pools: HashMap::new(),
            candidates: Vec::new(),
            report: Report::default(),
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// [`ReplayError`] if the recording is incomplete.
    pub fn take(&mut self, entry: Entry) -> Result<(), ReplayError> {
        let at = entry.at();
        let (weights, seed) = (self.weights, self.seed);
        let model = entry.model;
        let new = || Replayed::new(&model, weights, seed);
        let replayed = self.pools.entry(model.clone()).or_insert_with(new);
        match entry.event {
            Event::Joined { worker, name } => replayed.join(worker, name),
            Event::Left { worker } => {
                let id = replayed.worker(worker)?;
                replayed.pool.leave(id);
                replayed.workers.remove(&worker);
            }
            Event::State { worker, state } => replayed.state(worker, state, at)?,
            Event::Lost { worker } => {
                let id = replayed.worker(worker)?;
                replayed.pool.lost(id);
            }
            Event::Placed {
                request,
                work,
                tried,
                worker,
                serial,
            } => {
                let placed = Placed {
                    request,
                    work,
                    tried,
                    worker,
                    serial,
                };
                replayed.place(placed, at, &mut self.candidates, &mut self.report)?;
            }
            Event::Refused { serial } => {
                if let Some(ticket) = replayed.open.get(&serial) {
                    replayed.pool.refused(*ticket, at);
                }
            }
            Event::Begun { serial } => {
                if let Some(ticket) = replayed.open.get(&serial) {
                    replayed.pool.begun(*ticket);
                }
            }
            Event::Ended { serial, outcome } => {
                if let Some(ticket) = replayed.open.remove(&serial) {
                    replayed.pool.ended(ticket, outcome, at);
                }
            }
        }
        Ok(())
    }

    /// The result of all entries so far.
    #[must_use]
    pub fn report(self) -> Report {
        self.report
    }
}

struct Placed {
    request: String,
    work: RecordedWork,
    tried: Vec<u64>,
    worker: u64,
    serial: u64,
}

// === impl Replayed ===

impl Replayed {
    fn new(model: &str, weights: Weights, seed: u64) -> Self {
        Self {
            pool: Pool::new(model.into(), weights, seed),
            workers: HashMap::new(),
            open: HashMap::new(),
        }
    }

    fn join(&mut self, worker: u64, name: String) {
        let id = self.pool.join(name.as_str().into());
        self.workers.insert(worker, (id, name));
    }

    fn worker(&self, worker: u64) -> Result<WorkerId, ReplayError> {
        let known = self.workers.get(&worker);
        let known = known.ok_or(ReplayError::UnknownWorker(worker));
        known.map(|(id, _)| *id)
    }

    fn state(&mut self, worker: u64, state: State, at: Moment) -> Result<(), ReplayError> {
        let id = self.worker(worker)?;
        let taken = self.pool.state(id, state, at);
        taken.map_err(|gap| ReplayError::Gap { worker, gap })
    }

    /// Repeats the decision, then sends the request where it went in the recording, so that later states still match.
    fn place(
        &mut self,
        placed: Placed,
        at: Moment,
        candidates: &mut Vec<Candidate>,
        report: &mut Report,
    ) -> Result<(), ReplayError> {
        let work = placed.work.work();
        let tried = placed.tried.iter();
        // A worker that has left since it failed the request cannot be chosen anyway.
        let tried: Vec<WorkerId> = tried
            .filter_map(|worker| self.worker(*worker).ok())
            .collect();
        let was = self.worker(placed.worker)?;
        let was_name = self.workers[&placed.worker].1.clone();
        let choice = self.pool.choose(&work, &tried, at, candidates);
        let then = candidates.iter().find(|row| *row.worker == *was_name);
        let then = then.map(|row| row.verdict);
        let (Some(choice), Some(Verdict::Able(then) | Verdict::Full(then))) = (choice, then) else {
            return Err(ReplayError::Unready(placed.request));
        };
        report.decisions += 1;
        report.blocks += work.blocks.len() as u64;
        report.seconds.0 += then.seconds();
        report.seconds.1 += choice.cost.seconds();
        report.cached_blocks.0 += then.cached_blocks as u64;
        report.cached_blocks.1 += choice.cost.cached_blocks as u64;
        if choice.worker != was {
            report.differing.push(Differing {
                request: placed.request,
                was: was_name,
                is: candidates[choice.row].worker.to_string(),
            });
        }
        let ticket = self.pool.send(&work, was, then.cached_blocks, at);
        self.open.insert(placed.serial, ticket);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
