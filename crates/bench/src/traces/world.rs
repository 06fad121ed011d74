//! A fleet in virtual time: the routers' own code, and the timing model of the `simulated` engine.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use inferyard_engine_simulated::Settings;
use inferyard_placement::{BLOCK_BYTES, Moment, Weights, Work};

use super::machine::Machine;
use super::outcome::{Outcome, Tally};
use super::policy::{Given, Kind, Router};
use super::trace::{BLOCK_TOKENS, Request};

/// A worker's changes within this time share a message, as in `Watch`.
const TOGETHER: Duration = Duration::from_millis(20);
/// Network delay from a worker to a router.
const WAY: Duration = Duration::from_micros(500);

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) policy: Kind,
    pub(crate) workers: usize,
    pub(crate) routers: usize,
    /// How many times faster than recorded the trace is played.
    pub(crate) speed: f64,
    pub(crate) gpu: Settings,
    pub(crate) weights: Weights,
}

struct World<'a> {
    trace: &'a [Request],
    setup: &'a Setup,
    routers: Vec<Router>,
    machines: Vec<Machine>,
    open: HashMap<u64, Open>,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    next: u64,
    tally: Tally,
}

/// A request that was placed on a worker.
struct Open {
    router: usize,
    given: Given,
    arrived: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A worker's state reaches the routers.
    Report(usize),
    /// A worker's step ends.
    Step(usize),
    /// This request of the trace arrives.
    Arrive(usize),
}

/// Plays a trace until its last answer has ended.
pub(crate) fn play(trace: &[Request], setup: &Setup) -> Result<Outcome> {
    let machines = (0..setup.workers).map(|_| Machine::new(setup.gpu));
    let routers = (0..setup.routers)
        .map(|first| Router::new(setup.policy, setup.workers, setup.weights, first));
    let mut world = World {
        trace,
        setup,
        routers: routers.collect(),
        machines: machines.collect::<Result<_>>()?,
        open: HashMap::new(),
        events: BinaryHeap::new(),
        next: 0,
        tally: Tally::new(setup.workers),
    };
    for worker in 0..setup.workers {
        world.at(Duration::ZERO, Event::Report(worker));
    }
    world.at(Duration::from_millis(1), Event::Arrive(0));
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        match event {
            Event::Report(worker) => world.report(worker, now)?,
            Event::Step(worker) => world.step(worker, now),
            Event::Arrive(number) => world.arrive(number, now)?,
        }
    }
    Ok(world.tally.outcome())
}

// === impl World ===

impl World<'_> {
    fn at(&mut self, time: Moment, event: Event) {
        self.next += 1;
        self.events.push(Reverse((time, self.next, event)));
    }

    /// A request arrives at the next router, as from a load balancer.
    fn arrive(&mut self, number: usize, now: Moment) -> Result<()> {
        let request = &self.trace[number];
        let bytes = u64::from(request.prompt_tokens) * BLOCK_BYTES / u64::from(BLOCK_TOKENS);
        let work = Work {
            prompt_bytes: bytes,
            prompt_tokens: request.prompt_tokens.into(),
            blocks: Arc::from(request.blocks.as_slice()),
            sequences: 1,
        };
        let router = number % self.routers.len();
        let given = self.routers[router].place(&work, now)?;
        let id = number as u64;
        let open = Open {
            router,
            given,
            arrived: now,
        };
        self.open.insert(id, open);
        self.machines[given.worker].submit(id, request)?;
        self.changed(given.worker, now);
        self.start(given.worker, now);
        if let Some(following) = self.trace.get(number + 1) {
            let time = Duration::from_millis(1) + following.at.div_f64(self.setup.speed);
            self.at(time.max(now), Event::Arrive(number + 1));
        }
        Ok(())
    }

    /// Begins a step unless one is running.
    fn start(&mut self, worker: usize, now: Moment) {
        if let Some(length) = self.machines[worker].begin() {
            self.tally.busy += length;
            self.at(now + length, Event::Step(worker));
        }
    }

    fn step(&mut self, worker: usize, now: Moment) {
        let machine = &mut self.machines[worker];
        machine.end();
        let begun = std::mem::take(&mut machine.begun);
        let finished = std::mem::take(&mut machine.finished);
        for id in &begun {
            if let Some(open) = self.open.get(id) {
                self.routers[open.router].begun(open.given);
                let waited = now.saturating_sub(open.arrived);
                self.tally.first_tokens.push(waited);
            }
        }
        for end in &finished {
            if let Some(open) = self.open.remove(&end.id) {
                self.routers[open.router].ended(open.given, now);
                self.tally.prompt += end.prompt;
                self.tally.cached += end.cached;
                self.tally.worked[worker] += end.prompt - end.cached + end.produced;
            }
        }
        self.tally.ended = now;
        self.changed(worker, now);
        self.start(worker, now);
    }

    /// Schedules a state message of the worker.
    fn changed(&mut self, worker: usize, now: Moment) {
        let machine = &mut self.machines[worker];
        if !machine.speaks {
            machine.speaks = true;
            let time = now.max(machine.spoke + TOGETHER) + WAY;
            self.at(time, Event::Report(worker));
        }
    }

    fn report(&mut self, worker: usize, now: Moment) -> Result<()> {
        let machine = &mut self.machines[worker];
        machine.speaks = false;
        machine.spoke = now;
        let state = machine.state();
        for router in &mut self.routers {
            let taken = router.state(worker, state.clone(), now);
            taken.context("a simulated worker should skip no message")?;
        }
        Ok(())
    }
}
