//! All workers of one model, as one router knows them; the least cost wins.

use std::sync::Arc;

use crate::state::Phase;
use crate::view::{Gap, View};
use crate::{Considered, Cost, Moment, Outcome, Standing, State, Verdict, Weights, Work};

mod able;
mod health;
mod lately;
mod ticket;

use able::Able;
use health::{Health, Trust};
use lately::Lately;
pub use ticket::{Ticket, WorkerId};

/// Seconds of cost that nobody can foretell: workers that differ by less are equally good.
const AS_GOOD: f64 = 0.005;

/// Where a request should go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// To whom.
    pub worker: WorkerId,
    /// Which of those that were considered.
    pub row: usize,
    /// What it will probably cost.
    pub cost: Cost,
    /// Whether anybody has room for it now.
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
    /// Where the choice among equally good workers begins.
    seed: u64,
    /// Kept for its room.
    able: Vec<Able>,
}

#[derive(Debug)]
struct Member {
    id: WorkerId,
    name: Arc<str>,
    view: View,
    lately: Lately,
    health: Health,
}

// === impl Pool ===

impl Pool {
    /// No workers yet.
    #[must_use]
    ///
    /// Routers with different seeds choose differently among workers that are equally good, so that they
    /// do not all run to the same one before it can say so.
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

    /// What it weighs with.
    #[must_use]
    pub fn weights(&self) -> Weights {
        self.weights
    }

    /// A worker that has not spoken yet.
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
            view: View::default(),
            lately: Lately::default(),
            health: Health::default(),
        });
        id
    }

    /// A worker is no longer one of this model; what runs there goes on.
    pub fn leave(&mut self, worker: WorkerId) {
        if self.member(worker).is_some() {
            self.members[worker.index] = None;
        }
    }

    /// A worker said how it is.
    ///
    /// # Errors
    ///
    /// A message before it is missing; the stream must be opened anew.
    pub fn state(&mut self, worker: WorkerId, state: State, now: Moment) -> Result<(), Gap> {
        let served = self.serves(worker);
        let Some(member) = self.member(worker) else {
            return Ok(());
        };
        let comes_back = state.phase == Phase::Ready && member.view.was_away(state.boot_id);
        member.view.update(state, now)?;
        if comes_back {
            // It knows more of its engine than its answers tell.
            member.health.recovered();
        }
        let total = member.view.load().worked_tokens;
        member.lately.total(total, now);
        if !served && self.serves(worker) {
            self.catch_up(worker, now);
        }
        Ok(())
    }

    /// Called when a worker begins to take requests, or takes them again: its work counts as at least that of the
    /// least busy other worker. Otherwise it would get every request until it had done as much.
    fn catch_up(&mut self, worker: WorkerId, now: Moment) {
        let members = self.members.iter().flatten();
        let others = members.filter(|member| {
            member.id != worker && member.view.serves(&self.model) && !member.health.is_ejected()
        });
        let least = others.map(|member| member.lately.tokens(now));
        if let Some(least) = least.min_by(f64::total_cmp)
            && let Some(member) = self.member(worker)
        {
            member.lately.raise(least, now);
        }
    }

    /// A worker is silent: nothing is known of it until it speaks again.
    pub fn lost(&mut self, worker: WorkerId) {
        if let Some(member) = self.member(worker) {
            member.view.forget();
            member.lately.restarted();
        }
    }

    /// Finds the best worker that has not been tried, those with room before those without; writes down
    /// what was considered. Workers that failed requests in a row, or say that their engine does, are
    /// left out while there are others. `None`: no worker serves.
    pub fn choose(
        &mut self,
        work: &Work,
        tried: &[WorkerId],
        now: Moment,
        considered: &mut Vec<Considered>,
    ) -> Option<Choice> {
        self.look(tried, now, considered);
        let least = self.able.iter().map(|able| able.work);
        let least = least.fold(f64::INFINITY, f64::min);
        for able in &mut self.able {
            let Some(member) = &self.members[able.index] else {
                continue;
            };
            let covered = member.view.covered_blocks(work);
            let cost = Cost::of(work, covered, &able.load, able.work - least);
            able.room = able.load.has_room(work, covered);
            able.full = able.load.is_full(work, covered);
            considered[able.row].verdict = if able.full {
                Verdict::Full(cost)
            } else {
                Verdict::Able(cost)
            };
            able.cost = cost;
            able.weighed = cost.weighed(&self.weights);
        }
        self.best()
    }

    /// One of those that are as good as the best; who is full is worse than all others. While anybody has room, a
    /// request may go to where prompts wait: it costs less there, since that worker holds its prefix.
    fn best(&self) -> Option<Choice> {
        let room = self.able.iter().any(|able| able.room);
        let full = self.able.iter().all(|able| able.full);
        let equals = || self.able.iter().filter(|able| able.full == full);
        let best = equals().map(|able| able.weighed);
        let best = best.fold(f64::INFINITY, f64::min);
        let as_good = || equals().filter(|able| able.weighed <= best + AS_GOOD);
        let count = as_good().count().max(1) as u64;
        // By what was sent, not by what was asked: a recording holds the requests that were sent, and not how often
        // one that waited was looked at before.
        let turn = self.seed.wrapping_add(self.next_serial);
        let number = usize::try_from(spread(turn) % count).unwrap_or(0);
        let able = as_good().nth(number)?;
        Some(Choice {
            worker: self.members[able.index].as_ref()?.id,
            row: able.row,
            cost: able.cost,
            room,
        })
    }

    /// Whether a worker could take a request now.
    #[must_use]
    pub fn has_room(&self, worker: WorkerId, work: &Work) -> bool {
        self.seen(worker).is_some_and(|member| {
            let covered = member.view.covered_blocks(work);
            member.view.takes(&self.model) && member.view.load().has_room(work, covered)
        })
    }

    /// A request is about to be sent to a worker, where so many blocks of its prompt are covered.
    pub fn send(
        &mut self,
        work: &Work,
        worker: WorkerId,
        covered_blocks: usize,
        now: Moment,
    ) -> Ticket {
        let serial = self.next_serial;
        self.next_serial += 1;
        if let Some(member) = self.member(worker) {
            member.view.send(serial, work, covered_blocks, now);
            member.health.send(serial, now);
        }
        Ticket { worker, serial }
    }

    /// The worker's life; 0: it has not spoken.
    #[must_use]
    pub fn boot_id(&self, worker: WorkerId) -> u64 {
        self.seen(worker).map_or(0, |member| member.view.boot_id())
    }

    /// Finds those who could take a request, and writes down all.
    fn look(&mut self, tried: &[WorkerId], now: Moment, considered: &mut Vec<Considered>) {
        considered.clear();
        self.able.clear();
        for (index, member) in self.members.iter().enumerate() {
            let Some(member) = member else { continue };
            let verdict = if !member.view.takes(&self.model) {
                Verdict::Unready
            } else if tried.contains(&member.id) {
                Verdict::Tried
            } else {
                let load = member.view.load();
                self.able.push(Able {
                    index,
                    row: considered.len(),
                    load,
                    work: member.lately.tokens(now) + load.coming_tokens(),
                    cost: Cost::default(),
                    weighed: 0.0,
                    room: true,
                    full: false,
                    trusted: member.view.serves(&self.model)
                        && match member.health.trust(now) {
                            Trust::Full => true,
                            // A second failure of one request would be its client's.
                            Trust::Probe => tried.is_empty(),
                            Trust::None => false,
                        },
                });
                Verdict::Able(Cost::default())
            };
            considered.push(Considered {
                worker: Arc::clone(&member.name),
                verdict,
            });
        }
        able::leave_out_untrusted(&mut self.able, considered);
        able::assume_rates(&mut self.able);
    }

    /// The first token of a request is there.
    pub fn begun(&mut self, ticket: Ticket) {
        if let Some(member) = self.member(ticket.worker) {
            member.view.begun(ticket.serial);
        }
    }

    /// A request has ended.
    pub fn ended(&mut self, ticket: Ticket, outcome: Outcome, now: Moment) {
        let chance = spread(self.seed ^ ticket.serial);
        if let Some(member) = self.member(ticket.worker) {
            member.view.ended(ticket.serial);
            let was_ejected = member.health.is_ejected();
            member.health.ended(ticket.serial, outcome, now, chance);
            if was_ejected && !member.health.is_ejected() {
                self.catch_up(ticket.worker, now);
            }
        }
    }

    /// A worker had no room for a request: it gets none until it has spoken again.
    pub fn refused(&mut self, ticket: Ticket, now: Moment) {
        if let Some(member) = self.member(ticket.worker) {
            member.view.refused(now);
        }
    }

    /// Whether requests can be placed on a worker.
    #[must_use]
    pub fn standing(&self, worker: WorkerId) -> Standing {
        self.seen(worker).map_or(Standing::Unreachable, |member| {
            match member.view.standing(&self.model) {
                Standing::Ready if member.health.is_ejected() => Standing::Ejected,
                standing => standing,
            }
        })
    }

    /// Tokens of prompt and answer together that some worker takes; `None`: none has said so yet.
    #[must_use]
    pub fn context_length(&self) -> Option<u64> {
        let members = self.members.iter().flatten();
        members
            .filter_map(|member| member.view.context_length())
            .max()
    }

    /// Tokens that the chat template adds to a conversation; `None`: some worker does not tell, or there is
    /// none.
    #[must_use]
    pub fn template_tokens(&self) -> Option<u64> {
        let members = self.members.iter().flatten();
        let mut told = members.filter_map(|member| member.view.template_tokens());
        let most = told.try_fold(0, |most, tokens| (tokens > 0).then(|| tokens.max(most)));
        most.filter(|most| *most > 0)
    }

    fn serves(&self, worker: WorkerId) -> bool {
        let member = self.seen(worker);
        member.is_some_and(|member| member.view.serves(&self.model))
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

/// The finalizer of `SplitMix64`: neighbouring turns lead to numbers that have nothing in common.
fn spread(turn: u64) -> u64 {
    let x = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
