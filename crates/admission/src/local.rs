//! Decisions of one router by itself while the store cannot be reached.

use std::num::NonZeroU64;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::config::Routers;
use super::memory::Memory;
use super::seen::Seen;
use super::share::Share;
use super::store::{
    Admission, AdmissionDecision, Lease, LimitStatus, Scope, Store as _, StoreError, Used, Wait,
};
use crate::kind::LimitKind;
use crate::kind::by_kind;

/// This router's share of all limits.
pub(super) struct Local {
    /// Replaced after every outage: by then the store has what it counted.
    memory: ArcSwap<Memory>,
    pub(super) seen: Seen,
    /// The smallest number of routers that share the limits.
    least: Option<u64>,
    /// The number of routers assumed until Redis has reported one.
    unheard: Option<u64>,
    heard: Mutex<Option<Share>>,
}

/// A request admitted by this router.
pub(super) struct Held {
    pub(super) memory: Arc<Memory>,
    /// The lease, with this router's share of the limits.
    pub(super) lease: Lease,
}

/// The number of routers is unknown, so no share is safe.
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

    /// Takes the names of the live routers from the store, and the name of this one.
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

    /// The store is back and charges what was counted here: starts with empty levels.
    pub(super) fn forget(&self) {
        self.memory.store(Arc::new(Memory::new(None)));
    }

    /// The levels of the current outage.
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

    fn lock(&self) -> parking_lot::MutexGuard<'_, Option<Share>> {
        self.heard.lock()
    }

    /// Decides by this router's share of the limits, starting from the levels that the store last reported.
    ///
    /// # Errors
    ///
    /// [`UnknownShare`] if a limit applies and the number of routers is unknown.
    pub(super) async fn admit(
        &self,
        admission: &Admission,
        now_us: u64,
    ) -> Result<(Held, AdmissionDecision), UnknownShare> {
        let unlimited = admission.lease.scopes.iter().all(|scope| {
            let mut limits = by_kind(&scope.limits).into_iter();
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
            let decision = AdmissionDecision {
                admitted: false,
                money: 0,
                statuses: nothing,
            };
            return Ok((held, decision));
        }
        let seen = self.seen.recall(&own.lease, now_us);
        held.memory.seed(&own.lease, &seen, share.factor());
        let decision = held.memory.admit(&own).await;
        let mut decision = decision.unwrap_or_else(|error| {
            tracing::error!(%error, "the local store of this router failed");
            refusal()
        });
        soften(admission, &own, &mut decision);
        Ok((held, decision))
    }
}

// === impl Held ===

impl Held {
    pub(super) async fn raise(&self, whole: &Admission) -> Option<AdmissionDecision> {
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

/// Logs an error. None is expected, because the memory has no outbox.
fn told(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::error!(%error, "the local store of this router failed");
    }
}

/// The request with this router's share of its limits, and the statuses of limits in which its share is 0.
fn parts(admission: &Admission, share: Share) -> (Admission, Vec<LimitStatus>) {
    let mut own = admission.clone();
    let mut nothing = Vec::new();
    for scope in &mut own.lease.scopes {
        let part = share.part(&admission.lease.account, scope);
        for kind in part.nothing {
            let limit = limit_of(scope, kind);
            nothing.push(LimitStatus {
                kind,
                limit,
                used: limit,
                requested: requested(admission, kind),
                reset: std::time::Duration::ZERO,
                denial: Some(Wait::ForOthers),
            });
        }
        scope.limits = part.limits;
    }
    (own, nothing)
}

/// A request that exceeds this router's share may fit the whole limit once the store is back; `ForEver` remains only
/// for what exceeds the whole.
fn soften(admission: &Admission, own: &Admission, decision: &mut AdmissionDecision) {
    let whole = admission.lease.scopes.iter().zip(&own.lease.scopes);
    let whole = whole.flat_map(|(whole, own)| {
        let own = by_kind(&own.limits).into_iter();
        let own = own.filter(|(_, limit)| limit.is_some());
        own.map(|(kind, _)| limit_of(whole, kind))
    });
    for (status, whole) in decision.statuses.iter_mut().zip(whole) {
        if status.denial == Some(Wait::ForEver) && status.requested <= whole {
            status.denial = Some(Wait::ForOthers);
        }
    }
}

fn limit_of(scope: &Scope, kind: LimitKind) -> u64 {
    let limits = by_kind(&scope.limits).into_iter();
    let limit = limits.filter(|(other, _)| *other == kind);
    let mut limit = limit.filter_map(|(_, limit)| limit.map(NonZeroU64::get));
    limit.next().unwrap_or(0)
}

fn requested(admission: &Admission, kind: LimitKind) -> u64 {
    match kind {
        LimitKind::RequestsPerMinute
        | LimitKind::RequestsPerDay
        | LimitKind::RequestsTotal
        | LimitKind::ConcurrentRequests => 1,
        LimitKind::TokensPerMinute | LimitKind::TokensPerDay => admission.tokens,
        LimitKind::BudgetPerMonth => admission.least_money.min(admission.money),
    }
}

fn refusal() -> AdmissionDecision {
    AdmissionDecision {
        admitted: false,
        money: 0,
        statuses: Vec::new(),
    }
}
