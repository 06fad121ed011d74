//! What a router decides by itself while it cannot ask the store.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::config::Routers;
use super::memory::Memory;
use super::seen::Seen;
use super::share::{Share, limits};
use super::store::{
    Admission, Decision, Lease, Meter, Reading, Scope, Store as _, StoreError, Used, Wait,
};

/// This router's share of all limits.
pub(super) struct Local {
    /// A new one after every loss: what it counts is in the store then.
    memory: ArcSwap<Memory>,
    pub(super) seen: Seen,
    /// The smallest number of routers that share.
    least: Option<u64>,
    /// The number of routers that is assumed before Redis has told how many there are.
    unheard: Option<u64>,
    heard: Mutex<Option<Share>>,
}

/// A request that is counted here.
pub(super) struct Held {
    pub(super) memory: Arc<Memory>,
    /// With this router's share of the limits.
    pub(super) lease: Lease,
}

/// This router never heard how many there are, so that no share is safe.
#[derive(Debug)]
pub(super) struct UnknownShare;

// === impl Local ===

impl Local {
    pub(super) fn new(routers: Routers) -> Self {
        let Routers { least, most } = routers;
        let count = |routers: u32| u64::from(routers).max(1);
        Self {
            memory: ArcSwap::from_pointee(Memory::new(None)),
            seen: Seen::default(),
            least: least.map(count),
            unheard: most.max(least).map(count),
            heard: Mutex::default(),
        }
    }

    /// Which routers live, as the store says, and the name of this one.
    pub(super) fn heard(&self, routers: &[String], me: &str) {
        let place = routers.iter().position(|router| router == me);
        let share = Share {
            routers: (routers.len() as u64).max(1),
            place: place.map(|place| place as u64),
        };
        *self.lock() = Some(share);
    }

    #[cfg(test)]
    pub(super) fn routers(&self) -> Option<u64> {
        self.lock().map(|share| share.routers)
    }

    /// The store is back: what was counted here is charged there.
    pub(super) fn forget(&self) {
        self.memory.store(Arc::new(Memory::new(None)));
    }

    /// The requests of this time without the store.
    pub(super) fn memory(&self) -> Arc<Memory> {
        self.memory.load_full()
    }

    fn share(&self) -> Option<Share> {
        let heard = *self.lock();
        match (heard, self.unheard) {
            (Some(share), _) => Some(Share {
                routers: share.routers.max(self.least.unwrap_or(1)),
                ..share
            }),
            (None, Some(routers)) => Some(Share {
                routers,
                place: (routers == 1).then_some(0),
            }),
            (None, None) => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Share>> {
        let heard = self.heard.lock();
        heard.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Decides by this router's share of the limits, beginning from what the store last said.
    pub(super) async fn admit(
        &self,
        admission: &Admission,
        now_us: u64,
    ) -> Result<(Held, Decision), UnknownShare> {
        let unlimited = admission.lease.scopes.iter().all(|scope| {
            let mut limits = limits(&scope.limits).into_iter();
            limits.all(|(_, limit)| limit.is_none())
        });
        let whole = Share {
            routers: 1,
            place: Some(0),
        };
        let share = if unlimited { Some(whole) } else { self.share() };
        let share = share.ok_or(UnknownShare)?;
        let (own, nothing) = parts(admission, share);
        let held = Held {
            memory: self.memory(),
            lease: own.lease.clone(),
        };
        if !nothing.is_empty() && !admission.shadow {
            let decision = Decision {
                admitted: false,
                money: 0,
                readings: nothing,
            };
            return Ok((held, decision));
        }
        let seen = self.seen.recall(&own.lease, now_us);
        held.memory.seed(&own.lease, &seen, share.factor());
        let decision = held.memory.admit(&own).await;
        let mut decision = decision.unwrap_or_else(|error| {
            tracing::error!(%error, "the memory of this router failed");
            refusal()
        });
        soften(admission, &own, &mut decision);
        Ok((held, decision))
    }
}

// === impl Held ===

impl Held {
    pub(super) async fn raise(&self, whole: &Admission) -> Option<Decision> {
        let own = Admission {
            lease: self.lease.clone(),
            ..whole.clone()
        };
        let mut decision = self.memory.raise(&own).await.ok()??;
        soften(whole, &own, &mut decision);
        Some(decision)
    }

    pub(super) async fn progress(&self, used: &Used) {
        told(self.memory.progress(&self.lease, used).await.map(drop));
    }

    pub(super) async fn settle(&self, used: &Used) {
        told(self.memory.settle(&self.lease, used).await.map(drop));
    }
}

/// The memory has no outbox, and nothing else in it can fail.
fn told(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::error!(%error, "the memory of this router failed");
    }
}

/// The request with this router's parts of its limits, and readings of the limits of which it has no
/// part: other routers have them.
fn parts(admission: &Admission, share: Share) -> (Admission, Vec<Reading>) {
    let mut own = admission.clone();
    let mut nothing = Vec::new();
    for scope in &mut own.lease.scopes {
        let part = share.part(&admission.lease.account, scope);
        for meter in part.nothing {
            let limit = limit_of(scope, meter);
            nothing.push(Reading {
                meter,
                limit,
                used: limit,
                requested: requested(admission, meter),
                reset: std::time::Duration::ZERO,
                denial: Some(Wait::ForOthers),
            });
        }
        scope.limits = part.limits;
    }
    (own, nothing)
}

/// What does not fit this router's part may fit another's, or the whole when the store is back; only
/// what exceeds the whole is refused for ever.
fn soften(admission: &Admission, own: &Admission, decision: &mut Decision) {
    let whole = admission.lease.scopes.iter().zip(&own.lease.scopes);
    let whole = whole.flat_map(|(whole, own)| {
        let own = limits(&own.limits).into_iter();
        let own = own.filter(|(_, limit)| limit.is_some());
        own.map(|(meter, _)| limit_of(whole, meter))
    });
    for (reading, whole) in decision.readings.iter_mut().zip(whole) {
        if reading.denial == Some(Wait::ForEver) && reading.requested <= whole {
            reading.denial = Some(Wait::ForOthers);
        }
    }
}

fn limit_of(scope: &Scope, meter: Meter) -> u64 {
    let limits = limits(&scope.limits).into_iter();
    let limit = limits.filter(|(other, _)| *other == meter);
    let mut limit = limit.filter_map(|(_, limit)| limit.map(NonZeroU64::get));
    limit.next().unwrap_or(0)
}

fn requested(admission: &Admission, meter: Meter) -> u64 {
    match meter {
        Meter::RequestsPerMinute
        | Meter::RequestsPerDay
        | Meter::RequestsTotal
        | Meter::ConcurrentRequests => 1,
        Meter::TokensPerMinute | Meter::TokensPerDay => admission.tokens,
        Meter::BudgetPerMonth => admission.least_money.min(admission.money),
    }
}

fn refusal() -> Decision {
    Decision {
        admitted: false,
        money: 0,
        readings: Vec::new(),
    }
}
