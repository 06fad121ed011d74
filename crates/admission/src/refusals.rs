//! Requests that are refused for their own fault: what they count, and how many a caller without a key may have.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reserve::admission;
use super::store::{Meter, Reading};
use super::{ReserveError, Shared, Wanted};
use lru::LruCache;

/// Refused requests of a caller without a key in one window. At this number its further requests are refused
/// before they are read.
pub const MOST: u32 = 20;
const WINDOW: Duration = Duration::from_hours(1);
/// Callers without a key that are remembered, about 150 bytes each.
const MOST_CALLERS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Refused requests of callers without a key, counted by this router.
pub(super) struct Refusals(Mutex<LruCache<Arc<str>, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    refused: u32,
}

/// A caller has had too many requests refused.
#[derive(Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// When it may come back.
    pub retry_after: Duration,
}

// === impl Refusals ===

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MOST_CALLERS)))
    }

    /// Whether another request of this account is looked at.
    pub(super) fn check(&self, account: &Arc<str>) -> Result<(), TurnedAway> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(account).map_or(Ok(()), |count| count.check())
    }

    /// One more request of this account is refused, or it has had too many.
    pub(super) fn count(&self, account: &Arc<str>) -> Result<(), TurnedAway> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(account)
            && count.since.elapsed() < WINDOW
        {
            count.check()?;
            count.refused += 1;
            return Ok(());
        }
        let first = Count {
            since: Instant::now(),
            refused: 1,
        };
        counts.put(Arc::clone(account), first);
        Ok(())
    }
}

// === impl Count ===

impl Count {
    fn check(self) -> Result<(), TurnedAway> {
        let left = WINDOW.saturating_sub(self.since.elapsed());
        if self.refused < MOST || left.is_zero() {
            return Ok(());
        }
        Err(TurnedAway { retry_after: left })
    }
}

/// Counts a request that was refused before anything was held for it. Where the store is lost, it is not counted
/// per minute: the refusal itself has cost nothing.
pub(super) async fn refuse(shared: &Shared, wanted: &Wanted) -> Result<(), ReserveError> {
    if wanted.visitor {
        shared.refusals.count(&wanted.account)?;
    }
    let admission = admission(wanted, shared.lease_time, shared.clock.now_us());
    let mut scopes = admission.lease.scopes.iter();
    if !scopes.any(|scope| scope.limits.requests_per_minute.is_some()) {
        return Ok(());
    }
    let Ok(mut decision) = shared.calls.refuse(&admission).await else {
        return Ok(());
    };
    if decision.admitted {
        return Ok(());
    }
    let counts = |reading: &Reading| {
        matches!(
            reading.meter,
            Meter::RequestsPerMinute | Meter::ConcurrentRequests
        )
    };
    decision.readings.retain(counts);
    shared.metrics.denied(&decision.readings);
    Err(ReserveError::Denied {
        readings: decision.readings.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_in_an_hour_are_refused_and_then_the_caller_is_turned_away() {
        let refusals = Refusals::new();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        for _ in 0..20 {
            assert_eq!(refusals.check(&one), Ok(()));
            assert_eq!(refusals.count(&one), Ok(()));
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        let minutes = |minutes| {
            Err(TurnedAway {
                retry_after: Duration::from_mins(minutes),
            })
        };
        assert_eq!(refusals.check(&one), minutes(40));
        assert_eq!(refusals.count(&one), minutes(40));
        assert_eq!(refusals.check(&other), Ok(()));
        tokio::time::advance(Duration::from_mins(40)).await;
        assert_eq!(refusals.check(&one), Ok(()));
        assert_eq!(refusals.count(&one), Ok(()));
    }
}
