//! When a thing that failed is tried again: ever later, never at the same moment as everybody else.

use std::time::Duration;

/// How long the pauses are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After the first failure; doubled after each one.
    pub first: Duration,
    /// Where doubling ends.
    pub longest: Duration,
}

/// The failures in a row of one thing.
#[derive(Debug, Default)]
pub(crate) struct Failures(u32);

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(1),
        }
    }
}

impl Pace {
    /// The pause after so many failures: between half of it and all of it, by chance.
    fn pause(self, failures: u32, chance: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let full = doubled.min(self.longest);
        full / 2 + (full / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

// === impl Failures ===

impl Failures {
    /// It goes well again.
    pub(crate) fn forget(&mut self) {
        self.0 = 0;
    }

    /// One more. How long to wait now.
    pub(crate) fn next(&mut self, pace: Pace) -> Duration {
        // Without chance all retry at once; that is no reason to give up.
        let chance = getrandom::u32().unwrap_or(u32::MAX);
        let pause = pace.pause(self.0, chance);
        self.0 = self.0.saturating_add(1).min(31);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_differ() {
        let pace = Pace::default();
        let most = |failures| pace.pause(failures, u32::MAX).as_millis();
        let expect = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        let pauses: Vec<_> = (0..8).map(most).collect();
        assert_eq!(pauses, expect);
        assert_eq!(most(31), 60_000);
        assert_eq!(pace.pause(0, 0), Duration::from_millis(500));
    }
}
