//! Circuit breaker: stops calls to a store that does not answer, so that requests do not wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Consecutive failures that open the breaker.
const FAILURES: u32 = 5;

/// Closed while the store answers. Opens after several consecutive failures; only a probe closes it, and requests are
/// never probes.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    open: AtomicBool,
}

// === impl Breaker ===

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Records an answer. An answer to a call from before the breaker opened does not close it.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 && !self.is_open() {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Records a failure. Returns whether this one opened the breaker.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        failures + 1 >= FAILURES && !self.open.swap(true, Ordering::AcqRel)
    }

    /// Closes it after a successful probe. Returns whether it was open.
    pub(super) fn close(&self) -> bool {
        self.failures.store(0, Ordering::Relaxed);
        self.open.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_only_a_probe_closes_it() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES {
            assert!(!breaker.failed());
        }
        breaker.succeeded();
        for _ in 1..FAILURES {
            assert!(!breaker.failed());
        }
        assert!(!breaker.is_open());
        assert!(breaker.failed(), "the fifth in a row opens it");
        assert!(!breaker.failed(), "and only that one");
        breaker.succeeded();
        assert!(breaker.is_open());
        assert!(breaker.close());
        assert!(!breaker.is_open() && !breaker.close());
        assert!(!breaker.failed(), "it counts from the beginning");
    }
}
