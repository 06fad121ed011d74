//! The store of limits in the memory of one router.

use std::sync::Arc;

use inferyard_proto::outbox::{self, Entry};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::clock::{Clock, month};
#[cfg(test)]
use super::levels::whole;
use super::levels::{Levels, Now, number};
use super::store::{
    Admission, AdmissionDecision, Lease, LimitStatus, Progressed, Settled, Store, StoreError, Used,
};
use crate::kind::{LimitKind, by_kind};

mod record;
mod shard;

use shard::{Moment, Shard, Swept};

/// Leases that one sweep of a shard ends at most.
const SWEPT: usize = 256;

/// Levels and leases of one router; behaves like the store in Redis.
pub(crate) struct Memory {
    outbox: Option<mpsc::Sender<Entry>>,
    clock: Clock,
    shards: Vec<Mutex<Shard>>,
    #[cfg(test)]
    ahead_us: std::sync::atomic::AtomicU64,
}

// === impl Memory ===

impl Memory {
    /// Sends usage events to `outbox`; `None`: drops them. While half of its capacity or more is in use, no request
    /// is admitted.
    pub(crate) fn new(outbox: Option<mpsc::Sender<Entry>>) -> Self {
        let shards = (0..outbox::BUCKETS).map(|_| Mutex::default());
        Self {
            outbox,
            clock: Clock::start(),
            shards: shards.collect(),
            #[cfg(test)]
            ahead_us: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Sets the initial levels of scopes that have none yet: `share` of what `statuses` report as used.
    pub(crate) fn seed(&self, lease: &Lease, statuses: &[LimitStatus], share: f64) {
        let Moment { now, steady_us } = self.now();
        let mut account_shard = self.shard(&lease.account);
        let account = account_shard
            .accounts
            .entry(lease.account.clone())
            .or_default();
        account.touched_us = steady_us;
        let mut statuses = statuses.iter().peekable();
        for scope in &lease.scopes {
            let is_known = account.scopes.contains_key(&scope.name);
            let mut levels = Levels::at(now);
            for (kind, limit) in by_kind(&scope.limits) {
                let status = statuses.next_if(|status| limit.is_some() && status.kind == kind);
                if let Some(status) = status {
                    set(&mut levels, kind, number(status.used) * share);
                }
            }
            if !is_known {
                account.scopes.insert(Arc::clone(&scope.name), levels);
            }
        }
    }

    /// The current time. If the system clock was set back, levels continue on their own time, and the month is moved
    /// to match.
    fn now(&self) -> Moment {
        let (now, steady_us) = (self.clock.now_us(), self.clock.elapsed_us());
        #[cfg(test)]
        let ahead_us = self.ahead_us.load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(test)]
        let (now, steady_us) = (
            now.wrapping_add(ahead_us),
            steady_us.saturating_add_signed(ahead_us.cast_signed()),
        );
        let lead_us = self.clock.lead_us();
        let (first, next) = month(now);
        Moment {
            now: Now {
                us: number(now + lead_us),
                month: (number(first + lead_us), number(next + lead_us)),
            },
            steady_us,
        }
    }

    /// Shifts the clock; wraps around, so that it can go back.
    #[cfg(test)]
    pub(super) fn shift(&self, us: u64) {
        let ahead = &self.ahead_us;
        ahead.fetch_add(us, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn this_month(&self) -> (u64, u64) {
        let Now { month, .. } = self.now().now;
        (whole(month.0), whole(month.1))
    }

    /// The levels of a scope of an account.
    #[cfg(test)]
    pub(super) fn levels(&self, account: &str, scope: &str) -> Levels {
        let shard = self.shard(account);
        let account = shard.accounts.get(account);
        let levels = account.and_then(|account| account.scopes.get(scope));
        levels.copied().unwrap_or_default()
    }

    fn shard(&self, account: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(outbox::bucket(account))])
    }

    /// Usage events that the ledger has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        let outbox = self.outbox.as_ref();
        outbox.map_or(0, |outbox| outbox.max_capacity() - outbox.capacity())
    }

    /// Whether half of the outbox is in use. The other half is for the ends of running requests, which never wait for
    /// the ledger.
    pub(super) fn is_full(&self) -> bool {
        let outbox = self.outbox.as_ref();
        outbox.is_some_and(|outbox| outbox.capacity() <= outbox.max_capacity() / 2)
    }

    /// Reserves space for one event before it is made, so that none is lost. Never waits, because the ledger's
    /// database may be locked for an unlimited time.
    fn room(&self) -> Result<Option<mpsc::Permit<'_, Entry>>, StoreError> {
        let Some(outbox) = &self.outbox else {
            return Ok(None);
        };
        let room = outbox.try_reserve().map_err(|error| StoreError::Failed {
            message: match error {
                TrySendError::Full(()) => "no more usage events can wait for the ledger",
                TrySendError::Closed(()) => "the ledger has ended and takes no usage events",
            }
            .to_owned(),
        })?;
        Ok(Some(room))
    }

    fn end(&self, lease: &Lease, used: &Used, whole: bool) -> Result<Settled, StoreError> {
        let room = self.room()?;
        let now = self.now();
        let mut shard = self.shard(&lease.account);
        let (settled, entry) = shard.end(lease, used, whole, now);
        if let (Some(room), Some(entry)) = (room, entry) {
            room.send(entry);
        }
        Ok(settled)
    }
}

impl Store for Memory {
    async fn admit(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        let now = self.now();
        Ok(self.shard(&admission.lease.account).admit(admission, now))
    }

    async fn raise(&self, admission: &Admission) -> Result<Option<AdmissionDecision>, StoreError> {
        let now = self.now();
        Ok(self.shard(&admission.lease.account).raise(admission, now))
    }

    async fn refuse(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        let now = self.now();
        Ok(self.shard(&admission.lease.account).refuse(admission, now))
    }

    async fn progress(&self, lease: &Lease, used: &Used) -> Result<Progressed, StoreError> {
        let now = self.now();
        Ok(self.shard(&lease.account).progress(lease, used, now))
    }

    async fn settle(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        self.end(lease, used, false)
    }

    async fn charge(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        self.end(lease, used, true)
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        let mut ended = 0;
        for shard in &self.shards {
            lock(shard).forget(self.now().steady_us);
            for _ in 0..SWEPT {
                let room = self.room()?;
                match lock(shard).sweep_one(self.now().steady_us) {
                    Swept::Nothing => break,
                    Swept::Dropped => {}
                    Swept::Ended(entry) => {
                        ended += 1;
                        if let Some(room) = room {
                            room.send(entry);
                        }
                    }
                }
            }
        }
        Ok(ended)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock()
}

fn set(levels: &mut Levels, kind: LimitKind, level: f64) {
    match kind {
        LimitKind::RequestsPerMinute => levels.requests_minute = level,
        LimitKind::RequestsPerDay => levels.requests_day = level,
        LimitKind::RequestsTotal => levels.requests_total = level,
        LimitKind::TokensPerMinute => levels.tokens_minute = level,
        LimitKind::TokensPerDay => levels.tokens_day = level,
        // Requests admitted elsewhere end elsewhere, so this count would never be released here.
        LimitKind::ConcurrentRequests => {}
        LimitKind::BudgetPerMonth => levels.money_month = level,
    }
}
