//! How a router selects workers: Inferyard's own code, and the policies it is compared with.

use std::sync::Arc;

use anyhow::{Result, bail};
use inferyard_placement::{Candidate, Moment, Outcome, Pool, Ticket, Weights, Work, WorkerId};
use inferyard_proto::worker::v1::WorkerState;

/// The name of the model that all workers serve.
pub(crate) const MODEL: &str = "simulated";

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The router's own placement.
    Inferyard,
    /// Round robin.
    RoundRobin,
    /// The worker with the fewest requests of this router.
    LeastLoad,
}

/// One router.
pub(crate) enum Router {
    Inferyard {
        pool: Pool,
        workers: Vec<WorkerId>,
        considered: Vec<Candidate>,
    },
    RoundRobin {
        next: usize,
        workers: usize,
    },
    LeastLoad {
        running: Vec<u32>,
        turn: usize,
    },
}

/// A request that a router has placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) worker: usize,
    ticket: Option<Ticket>,
}

// === impl Kind ===

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inferyard => "Inferyard",
            Self::RoundRobin => "round robin",
            Self::LeastLoad => "least load",
        }
    }
}

// === impl Router ===

impl Router {
    pub(crate) fn new(kind: Kind, workers: usize, weights: Weights, first: usize) -> Self {
        match kind {
            Kind::Inferyard => {
                let mut pool = Pool::new(MODEL.into(), weights, first as u64 * 1_000_003);
                let names = (0..workers).map(|number| Arc::from(format!("worker-{number}")));
                let workers = names.map(|name| pool.join(name)).collect();
                let considered = Vec::new();
                Self::Inferyard {
                    pool,
                    workers,
                    considered,
                }
            }
            Kind::RoundRobin => Self::RoundRobin {
                next: first,
                workers,
            },
            Kind::LeastLoad => Self::LeastLoad {
                running: vec![0; workers],
                turn: first,
            },
        }
    }

    pub(crate) fn state(&mut self, worker: usize, state: WorkerState, now: Moment) -> Result<()> {
        if let Self::Inferyard { pool, workers, .. } = self {
            pool.state(workers[worker], state.into(), now)?;
        }
        Ok(())
    }

    pub(crate) fn place(&mut self, work: &Work, now: Moment) -> Result<Given> {
        match self {
            Self::Inferyard {
                pool,
                workers,
                considered,
            } => {
                let Some(choice) = pool.choose(work, &[], now, considered) else {
                    bail!("no worker is ready");
                };
                let cached_blocks = choice.cost.cached_blocks;
                let ticket = pool.send(work, choice.worker, cached_blocks, now);
                let worker = workers.iter().position(|worker| *worker == choice.worker);
                Ok(Given {
                    worker: worker.expect("a pool should choose a worker that joined it"),
                    ticket: Some(ticket),
                })
            }
            Self::RoundRobin { next, workers } => {
                let worker = *next % *workers;
                *next += 1;
                let ticket = None;
                Ok(Given { worker, ticket })
            }
            Self::LeastLoad { running, turn } => {
                *turn += 1;
                let count = running.len();
                let order = (0..count).map(|step| (*turn + step) % count);
                let worker = order.min_by_key(|worker| running[*worker]).unwrap_or(0);
                running[worker] += 1;
                let ticket = None;
                Ok(Given { worker, ticket })
            }
        }
    }

    pub(crate) fn begun(&mut self, given: Given) {
        if let (Self::Inferyard { pool, .. }, Some(ticket)) = (self, given.ticket) {
            pool.begun(ticket);
        }
    }

    pub(crate) fn ended(&mut self, given: Given, now: Moment) {
        match (self, given.ticket) {
            (Self::Inferyard { pool, .. }, Some(ticket)) => {
                pool.ended(ticket, Outcome::Succeeded, now);
            }
            (Self::LeastLoad { running, .. }, _) => running[given.worker] -= 1,
            _ => {}
        }
    }
}
