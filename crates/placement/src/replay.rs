//! Decides a recording again, with the same code: as it was, or as it would be with other weights.

use std::collections::HashMap;

use crate::recording::{Entry, Event, RecordedWork};
use crate::{Considered, Gap, Moment, Pool, State, Ticket, Verdict, Weights, WorkerId};

/// A recording that is being decided again.
pub struct Replay {
    weights: Weights,
    seed: u64,
    pools: HashMap<String, Replayed>,
    considered: Vec<Considered>,
    report: Report,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that were placed.
    pub decisions: u64,
    /// Those that go to another worker now.
    pub differing: Vec<Differing>,
    /// Expected seconds to the first token, over all decisions: as they were, and as they are now.
    pub seconds: (f64, f64),
    /// Prompt blocks that were held where the requests went, and where they go now.
    pub covered_blocks: (u64, u64),
    /// Prompt blocks in all.
    pub blocks: u64,
}

/// A request that goes to another worker now.
#[derive(Clone, Debug, PartialEq)]
pub struct Differing {
    /// The request's id.
    pub request: String,
    /// The address of the worker that got it.
    pub was: String,
    /// The address of the one that would get it.
    pub is: String,
}

/// Why a recording cannot be decided again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It speaks of a worker that has not joined.
    #[error("worker {0} is not known: the recording is not whole")]
    UnknownWorker(u64),
    /// A state is missing.
    #[error("a message of worker {worker} is missing: {gap}")]
    Gap {
        /// Whose.
        worker: u64,
        /// Which.
        gap: Gap,
    },
    /// A request went to a worker that could not take it.
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
    /// Decides with these weights, and the recorded seed.
    #[must_use]
    pub fn new(weights: Weights, seed: u64) -> Self {
        Self {
            weights,
            seed,
            pools: HashMap::new(),
            considered: Vec::new(),
            report: Report::default(),
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// The recording is not whole.
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
                replayed.place(placed, at, &mut self.considered, &mut self.report)?;
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

    /// What came of all that was taken.
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

    /// Decides once more, and goes on as it was.
    fn place(
        &mut self,
        placed: Placed,
        at: Moment,
        considered: &mut Vec<Considered>,
        report: &mut Report,
    ) -> Result<(), ReplayError> {
        let work = placed.work.work();
        let tried = placed.tried.iter();
        // One that has left since it failed is not there to be chosen.
        let tried: Vec<WorkerId> = tried
            .filter_map(|worker| self.worker(*worker).ok())
            .collect();
        let was = self.worker(placed.worker)?;
        let was_name = self.workers[&placed.worker].1.clone();
        let choice = self.pool.choose(&work, &tried, at, considered);
        let then = considered.iter().find(|row| *row.worker == *was_name);
        let then = then.map(|row| row.verdict);
        let (Some(choice), Some(Verdict::Able(then) | Verdict::Full(then))) = (choice, then) else {
            return Err(ReplayError::Unready(placed.request));
        };
        report.decisions += 1;
        report.blocks += work.blocks.len() as u64;
        report.seconds.0 += then.seconds();
        report.seconds.1 += choice.cost.seconds();
        report.covered_blocks.0 += then.covered_blocks as u64;
        report.covered_blocks.1 += choice.cost.covered_blocks as u64;
        if choice.worker != was {
            report.differing.push(Differing {
                request: placed.request,
                was: was_name,
                is: considered[choice.row].worker.to_string(),
            });
        }
        let ticket = self.pool.send(&work, was, then.covered_blocks, at);
        self.open.insert(placed.serial, ticket);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
