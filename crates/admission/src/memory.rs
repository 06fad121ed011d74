//! The store of limits in the memory of one router.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inferyard_proto::outbox::{self, Entry};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::clock::{Clock, month};
#[cfg(test)]
use super::meters::whole;
use super::meters::{Meters, Now, all, number};
use super::store::{
    Admission, Decision, Lease, Meter, Progressed, Reading, Settled, Store, StoreError, Used,
};

mod record;
mod shard;

use shard::{Moment, Shard, Swept};

/// So many leases of a shard end in one sweep.
const SWEPT: usize = 256;

/// Meters and leases of one router. It does what the store in Redis does.
pub(crate) struct Memory {
    outbox: Option<mpsc::Sender<Entry>>,
    clock: Clock,
    shards: Vec<Mutex<Shard>>,
    #[cfg(test)]
    ahead_us: std::sync::atomic::AtomicU64,
}

// === impl Memory ===

impl Memory {
    /// Events go into `outbox`; without one they are dropped. From half of its capacity on no request
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

    /// Sets the first levels of the scopes of an account that have none: so much of what `readings`
    /// say that is used.
    pub(crate) fn seed(&self, lease: &Lease, readings: &[Reading], share: f64) {
        let Moment { now, steady_us } = self.now();
        let mut account_shard = self.shard(&lease.account);
        let account = account_shard
            .accounts
            .entry(Arc::clone(&lease.account))
            .or_default();
        account.touched_us = steady_us;
        let mut readings = readings.iter().peekable();
        for scope in &lease.scopes {
            let is_known = account.scopes.contains_key(&scope.name);
            let mut meters = Meters::at(now);
            for (meter, limit) in all(&scope.limits) {
                let reading = readings.next_if(|reading| limit.is_some() && reading.meter == meter);
                if let Some(reading) = reading {
                    set(&mut meters, meter, number(reading.used) * share);
                }
            }
            if !is_known {
                account.scopes.insert(Arc::clone(&scope.name), meters);
            }
        }
    }

    /// When it is. Where the system's clock was set back, meters go on as if it had not been: the month is
    /// moved to where it lies in their time.
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

    /// Turns the clock; wraps, so that it can go back.
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

    /// What a scope of an account counts.
    #[cfg(test)]
    pub(super) fn meters(&self, account: &str, scope: &str) -> Meters {
        let shard = self.shard(account);
        let account = shard.accounts.get(account);
        let meters = account.and_then(|account| account.scopes.get(scope));
        meters.copied().unwrap_or_default()
    }

    fn shard(&self, account: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(outbox::bucket(account))])
    }

    /// Usage events that the ledger has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        let outbox = self.outbox.as_ref();
        outbox.map_or(0, |outbox| outbox.max_capacity() - outbox.capacity())
    }

    /// Whether half of the outbox is in use. The other half is for the ends of requests that run, which
    /// never wait for the ledger.
    pub(super) fn is_full(&self) -> bool {
        let outbox = self.outbox.as_ref();
        outbox.is_some_and(|outbox| outbox.capacity() <= outbox.max_capacity() / 2)
    }

    /// Room for one event, so that none is made that would be lost. It never waits: the
    /// database of the ledger may be locked for ever.
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
    async fn admit(&self, admission: &Admission) -> Result<Decision, StoreError> {
        let now = self.now();
        Ok(self.shard(&admission.lease.account).admit(admission, now))
    }

    async fn raise(&self, admission: &Admission) -> Result<Option<Decision>, StoreError> {
        let now = self.now();
        Ok(self.shard(&admission.lease.account).raise(admission, now))
    }

    async fn refuse(&self, admission: &Admission) -> Result<Decision, StoreError> {
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
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(meters: &mut Meters, meter: Meter, level: f64) {
    match meter {
        Meter::RequestsPerMinute => meters.requests_minute = level,
        Meter::RequestsPerDay => meters.requests_day = level,
        Meter::RequestsTotal => meters.requests_total = level,
        Meter::TokensPerMinute => meters.tokens_minute = level,
        Meter::TokensPerDay => meters.tokens_day = level,
        // Whoever runs elsewhere ends elsewhere: nothing would ever give it back here.
        Meter::ConcurrentRequests => {}
        Meter::BudgetPerMonth => meters.money_month = level,
    }
}
