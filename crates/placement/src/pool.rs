//! All workers of one model, as one router knows them; the lowest cost wins.

use std::sync::Arc;

use inferyard_domain::InstanceId;

use crate::snapshot::{Gap, WorkerSnapshot};
use crate::state::Phase;
use crate::{Candidate, Cost, EndpointState, Moment, Outcome, State, Verdict, Weights, Work};

mod able;
mod health;
mod recent_work;
mod ticket;

use able::Able;
use health::{Health, Trust};
use recent_work::RecentWork;
pub use ticket::{Ticket, WorkerId};

/// Cost difference in seconds below which workers count as equally good, because costs are not predictable to this
/// precision.
const AS_GOOD: f64 = 0.005;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// The chosen worker.
    pub worker: WorkerId,
    /// Its index among the candidates.
    pub row: usize,
    /// Its expected cost.
    pub cost: Cost,
    /// Whether any worker has room for the request now.
    pub room: bool,
}

/// All workers of one model.
#[derive(Debug)]
pub struct Pool {
    model: Arc<str>,
    weights: Weights,
    members: Vec<Option<Member>>,
    joined: u64,
    next_serial: u64,
    /// Spreads the choice among equally good workers.
    seed: u64,
    /// Kept between calls to reuse its allocation.
    able: Vec<Able>,
}

#[derive(Debug)]
struct Member {
    id: WorkerId,
    name: Arc<str>,
    snapshot: WorkerSnapshot,
    lately: RecentWork,
    health: Health,
}

// === impl Pool ===

impl Pool {
    /// An empty pool.
    ///
    /// Different seeds choose differently among equally good workers, so that routers do not all choose the same
    /// worker before its state reflects it.
    #[must_use]
    pub fn new(model: Arc<str>, weights: Weights, seed: u64) -> Self {
        Self {
            model,
            weights,
            members: Vec::new(),
            joined: 0,
            next_serial: 0,
            seed,
            able: Vec::new(),
        }
    }

    /// The weights of the cost terms.
    #[must_use]
    pub fn weights(&self) -> Weights {
        self.weights
    }

    /// Adds a worker that has not sent a state yet.
    pub fn join(&mut self, name: Arc<str>) -> WorkerId {
        let free = self.members.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.joined += 1;
        let id = WorkerId {
            index,
            joined: self.joined,
        };
        self.members[index] = Some(Member {
            id,
            name,
            snapshot: WorkerSnapshot::default(),
            lately: RecentWork::default(),
            health: Health::default(),
        });
        id
    }

    /// Removes a worker from the pool; its running requests go on.
    pub fn leave(&mut self, worker: WorkerId) {
        if self.member(worker).is_some() {
            self.members[worker.index] = None;
        }
    }

    /// Takes a state that a worker sent.
    ///
    /// # Errors
    ///
    /// [`Gap`] if a message before it is missing; the stream must be opened again.
    pub fn state(&mut self, worker: WorkerId, state: State, now: Moment) -> Result<(), Gap> {
        let served = self.serves(worker);
        let Some(member) = self.member(worker) else {
            return Ok(());
        };
        let comes_back = state.phase == Phase::Ready && member.snapshot.was_away(state.instance);
        member.snapshot.update(state, now)?;
        if comes_back {
            // The worker's own report overrides the failures counted from its answers.
            member.health.recovered();
        }
        let total = member.snapshot.load().worked_tokens;
        member.lately.total(total, now);
        if !served && self.serves(worker) {
            self.catch_up(worker, now);
        }
        Ok(())
    }

    /// Called when a worker starts or resumes taking requests: raises its recent work to at least that of the least
    /// busy other worker. Otherwise it would get every request until it had done as much.
    fn catch_up(&mut self, worker: WorkerId, now: Moment) {
        let members = self.members.iter().flatten();
        let others = members.filter(|member| {
            member.id != worker
                && member.snapshot.serves(&self.model)
                && !member.health.is_ejected()
        });
        let least = others.map(|member| member.lately.tokens(now));
        if let Some(least) = least.min_by(f64::total_cmp)
            && let Some(member) = self.member(worker)
        {
            member.lately.raise(least, now);
        }
    }

    /// The state stream of a worker broke: discards its snapshot until the next state.
    pub fn lost(&mut self, worker: WorkerId) {
        if let Some(member) = self.member(worker) {
            member.snapshot.forget();
            member.lately.restarted();
        }
    }

    /// Chooses the best worker that is not in `tried`, and fills `candidates` with a verdict per worker. A full
    /// worker is chosen only if all are full. Workers that failed several requests in a row, or report a failing
    /// engine, are left out while others are available. `None`: no worker can take the request.
    pub fn choose(
        &mut self,
        work: &Work,
        tried: &[WorkerId],
        now: Moment,
        candidates: &mut Vec<Candidate>,
    ) -> Option<Selection> {
        self.look(tried, now, candidates);
        let least = self.able.iter().map(|able| able.work);
        let least = least.fold(f64::INFINITY, f64::min);
        for able in &mut self.able {
            let Some(member) = &self.members[able.index] else {
                continue;
            };
            let covered = member.snapshot.cached_blocks(work);
            let cost = Cost::of(work, covered, &able.load, able.work - least);
            able.room = able.load.has_room(work, covered);
            able.full = able.load.is_full(work, covered);
            candidates[able.row].verdict = if able.full {
                Verdict::Full(cost)
            } else {
                Verdict::Able(cost)
            };
            able.cost = cost;
            able.weighed = cost.weighed(&self.weights);
        }
        self.best()
    }

    /// One of the workers that are as good as the best. Workers that are not full come before full ones. A worker
    /// with a backlog of prompts can win over one with room, because its cached prefix makes it cheaper.
    fn best(&self) -> Option<Selection> {
        let room = self.able.iter().any(|able| able.room);
        let full = self.able.iter().all(|able| able.full);
        let equals = || self.able.iter().filter(|able| able.full == full);
        let best = equals().map(|able| able.weighed);
        let best = best.fold(f64::INFINITY, f64::min);
        let as_good = || equals().filter(|able| able.weighed <= best + AS_GOOD);
        let count = as_good().count().max(1) as u64;
        // Derived from the count of sent requests: a recording holds those, but not how often a queued request was
        // tried before.
        let turn = self.seed.wrapping_add(self.next_serial);
        let number = usize::try_from(spread(turn) % count).unwrap_or(0);
        let able = as_good().nth(number)?;
        Some(Selection {
            worker: self.members[able.index].as_ref()?.id,
            row: able.row,
            cost: able.cost,
            room,
        })
    }

    /// Whether a worker has room for a request now.
    #[must_use]
    pub fn has_room(&self, worker: WorkerId, work: &Work) -> bool {
        self.seen(worker).is_some_and(|member| {
            let covered = member.snapshot.cached_blocks(work);
            member.snapshot.takes(&self.model) && member.snapshot.load().has_room(work, covered)
        })
    }

    /// Records that a request is about to be sent to a worker that holds `cached_blocks` blocks of its prompt.
    pub fn send(
        &mut self,
        work: &Work,
        worker: WorkerId,
        cached_blocks: usize,
        now: Moment,
    ) -> Ticket {
        let serial = self.next_serial;
        self.next_serial += 1;
        if let Some(member) = self.member(worker) {
            member.snapshot.send(serial, work, cached_blocks, now);
            member.health.send(serial, now);
        }
        Ticket { worker, serial }
    }

    /// The worker's instance; `None`: not reported.
    #[must_use]
    pub fn instance(&self, worker: WorkerId) -> Option<InstanceId> {
        self.seen(worker)?.snapshot.instance()
    }

    /// Fills `self.able` with the workers that can take a request, and `candidates` with all workers.
    fn look(&mut self, tried: &[WorkerId], now: Moment, candidates: &mut Vec<Candidate>) {
        candidates.clear();
        self.able.clear();
        for (index, member) in self.members.iter().enumerate() {
            let Some(member) = member else { continue };
            let verdict = if !member.snapshot.takes(&self.model) {
                Verdict::Unready
            } else if tried.contains(&member.id) {
                Verdict::Tried
            } else {
                let load = member.snapshot.load();
                self.able.push(Able {
                    index,
                    row: candidates.len(),
                    load,
                    work: member.lately.tokens(now) + load.coming_tokens(),
                    cost: Cost::default(),
                    weighed: 0.0,
                    room: true,
                    full: false,
                    trusted: member.snapshot.serves(&self.model)
                        && match member.health.trust(now) {
                            Trust::Full => true,
                            // A request that already failed elsewhere may itself be at fault, so it is no probe.
                            Trust::Probe => tried.is_empty(),
                            Trust::None => false,
                        },
                });
                Verdict::Able(Cost::default())
            };
            candidates.push(Candidate {
                worker: Arc::clone(&member.name),
                verdict,
            });
        }
        able::leave_out_untrusted(&mut self.able, candidates);
        able::assume_rates(&mut self.able);
    }

    /// Records that the first token of a request has arrived.
    pub fn begun(&mut self, ticket: Ticket) {
        if let Some(member) = self.member(ticket.worker) {
            member.snapshot.begun(ticket.serial);
        }
    }

    /// Records how a request ended.
    pub fn ended(&mut self, ticket: Ticket, outcome: Outcome, now: Moment) {
        let chance = spread(self.seed ^ ticket.serial);
        if let Some(member) = self.member(ticket.worker) {
            member.snapshot.ended(ticket.serial);
            let was_ejected = member.health.is_ejected();
            member.health.ended(ticket.serial, outcome, now, chance);
            if was_ejected && !member.health.is_ejected() {
                self.catch_up(ticket.worker, now);
            }
        }
    }

    /// Records that a worker refused a request for want of room: it has no room until its next state.
    pub fn refused(&mut self, ticket: Ticket, now: Moment) {
        if let Some(member) = self.member(ticket.worker) {
            member.snapshot.refused(now);
        }
    }

    /// Whether requests can be placed on a worker, and why not.
    #[must_use]
    pub fn endpoint_state(&self, worker: WorkerId) -> EndpointState {
        self.seen(worker)
            .map_or(EndpointState::Unreachable, |member| {
                match member.snapshot.endpoint_state(&self.model) {
                    EndpointState::Ready if member.health.is_ejected() => EndpointState::Ejected,
                    endpoint_state => endpoint_state,
                }
            })
    }

    /// The longest context of any worker in tokens, prompt and answer together; `None`: none reported yet.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        let members = self.members.iter().flatten();
        members
            .filter_map(|member| member.snapshot.context_length())
            .max()
    }

    /// The most tokens that the chat template of any worker adds to a conversation; `None`: a worker does not report
    /// it, or none has loaded its model.
    #[must_use]
    pub fn template_tokens(&self) -> Option<u64> {
        let members = self.members.iter().flatten();
        let mut told = members.filter_map(|member| member.snapshot.template_tokens());
        let most = told.try_fold(0, |most, tokens| (tokens > 0).then(|| tokens.max(most)));
        most.filter(|most| *most > 0)
    }

    fn serves(&self, worker: WorkerId) -> bool {
        let member = self.seen(worker);
        member.is_some_and(|member| member.snapshot.serves(&self.model))
    }

    fn seen(&self, worker: WorkerId) -> Option<&Member> {
        let member = self.members.get(worker.index)?.as_ref();
        member.filter(|member| member.id == worker)
    }

    fn member(&mut self, worker: WorkerId) -> Option<&mut Member> {
        let member = self.members.get_mut(worker.index)?.as_mut();
        member.filter(|member| member.id == worker)
    }
}

/// The finalizer of `SplitMix64`: consecutive inputs give unrelated numbers.
fn spread(turn: u64) -> u64 {
    let x = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
