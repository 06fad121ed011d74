//! Pauses between attempts: exponential back-off with jitter, so that clients that failed together do not retry together.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Bounds of the pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub struct BackoffPolicy {
    /// Longest pause after the first failure; it doubles with each further failure in a row.
    pub first: Duration,
    /// Longest pause of all.
    pub longest: Duration,
}

/// The failures in a row of one operation.
#[derive(Debug, Default)]
pub(crate) struct Failures(Option<ExponentialBackoff>);

// === impl BackoffPolicy ===

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(1),
        }
    }
}

impl BackoffPolicy {
    /// Pauses without end. Each is drawn between half of its upper bound and that bound: the jitter of `backon` adds
    /// up to as much again to a pause, so it starts from the halves.
    fn start(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.first / 2)
            .with_max_delay(self.longest / 2)
            .without_max_times()
            .with_jitter()
            .build()
    }
}

// === impl Failures ===

impl Failures {
    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.0 = None;
    }

    /// Counts a failure, and returns the pause before the next attempt.
    pub(crate) fn next(&mut self, policy: BackoffPolicy) -> Duration {
        let pauses = self.0.get_or_insert_with(|| policy.start());
        pauses.next().unwrap_or(policy.longest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_differ() {
        let policy = BackoffPolicy::default();
        let longest = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        let mut firsts = HashSet::new();
        for _ in 0..100 {
            let mut failures = Failures::default();
            for longest in longest.map(Duration::from_millis) {
                let pause = failures.next(policy);
                assert!((longest / 2..=longest).contains(&pause), "{pause:?}");
            }
            assert!((0..40).all(|_| failures.next(policy) <= policy.longest));
            failures.reset();
            let first = failures.next(policy);
            assert!(first <= policy.first, "{first:?}");
            firsts.insert(first);
        }
        assert!(firsts.len() > 90, "{} of 100 differ", firsts.len());
    }
}
