//! Requests that are refused as invalid: how they count, and how many a caller without a key may have.

use std::num::NonZeroUsize;

use std::time::Duration;

use inferyard_domain::Account;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::reserve::admission;
use super::store::LimitStatus;
use super::{AdmissionRequest, LimitError, Shared};
use crate::kind::LimitKind;
use lru::LruCache;

/// Refused requests of a caller without a key in one window. From this number on, its requests are refused before
/// they are read.
pub(crate) const MOST: u32 = 20;
/// Length of a window, which starts with the first refused request.
const WINDOW: Duration = Duration::from_hours(1);
/// Bounds the callers without a key that are remembered, about 150 bytes each.
const MOST_CALLERS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Refused requests of callers without a key, as counted by this router.
pub(super) struct Refusals(Mutex<LruCache<Account, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    refused: u32,
}

/// Too many requests of a caller were refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TurnedAway {
    /// When its requests are read again.
    pub(crate) retry_after: Duration,
}

// === impl Refusals ===

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MOST_CALLERS)))
    }

    /// Checks that another request of this account may be read.
    pub(super) fn check(&self, account: &Account) -> Result<(), TurnedAway> {
        let mut counts = self.0.lock();
        counts.get(account).map_or(Ok(()), |count| count.check())
    }

    /// Counts a refused request of this account, or returns that there were too many.
    pub(super) fn count(&self, account: &Account) -> Result<(), TurnedAway> {
        let mut counts = self.0.lock();
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
        counts.put(account.clone(), first);
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

/// Counts a request that was refused before anything was held for it. While the store cannot be reached, it is not
/// counted per minute: the refusal itself costs almost nothing.
pub(super) async fn refuse(shared: &Shared, wanted: &AdmissionRequest) -> Result<(), LimitError> {
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
    let counts = |status: &LimitStatus| {
        matches!(
            status.kind,
            LimitKind::RequestsPerMinute | LimitKind::ConcurrentRequests
        )
    };
    decision.statuses.retain(counts);
    shared.metrics.denied(&decision.statuses);
    Err(LimitError::Denied {
        statuses: decision.statuses.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_in_an_hour_are_refused_and_then_the_caller_is_turned_away() {
        let refusals = Refusals::new();
        let (one, other): (Account, Account) = ("one".into(), "other".into());
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
