//! A sum over the last minute, kept in a bounded number of parts.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long an amount counts.
const MINUTE: Duration = Duration::from_mins(1);
/// Amounts of one part leave together.
const PART: Duration = Duration::from_secs(1);

/// Amounts of the last minute; at most one part for each second.
#[derive(Debug)]
pub(super) struct LastMinute {
    begun: Instant,
    // The number of the second since `begun`, and what was added in it; oldest first.
    parts: VecDeque<(u64, u64)>,
    sum: u64,
}

// === impl LastMinute ===

impl LastMinute {
    pub(super) fn new(begun: Instant) -> Self {
        Self {
            begun,
            parts: VecDeque::new(),
            sum: 0,
        }
    }

    /// Adds an amount at this moment.
    pub(super) fn add(&mut self, amount: u64, now: Instant) {
        let second = self.second(now);
        self.forget(second);
        self.sum += amount;
        match self.parts.back_mut() {
            // The clocks of two threads may differ by a little.
            Some((last, sum)) if *last >= second => *sum += amount,
            _ => self.parts.push_back((second, amount)),
        }
    }

    /// What was added within the last minute, to the second.
    pub(super) fn sum(&mut self, now: Instant) -> u64 {
        self.forget(self.second(now));
        self.sum
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs() / PART.as_secs()
    }

    fn forget(&mut self, second: u64) {
        let parts = MINUTE.as_secs() / PART.as_secs();
        while let Some((_, amount)) = self.parts.pop_front_if(|part| part.0 + parts <= second) {
            self.sum -= amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_count_for_a_minute() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut worked = LastMinute::new(begun);
        assert_eq!(worked.sum(at(0)), 0);
        worked.add(5, at(100));
        worked.add(7, at(900));
        worked.add(11, at(30_000));
        assert_eq!(worked.sum(at(30_000)), 23);
        assert_eq!(worked.sum(at(59_999)), 23);
        assert_eq!(worked.sum(at(60_000)), 11);
        assert_eq!(worked.sum(at(89_999)), 11);
        assert_eq!(worked.sum(at(90_000)), 0);
    }

    #[test]
    fn a_worker_that_works_without_a_pause_keeps_a_bounded_number_of_parts() {
        let begun = Instant::now();
        let mut worked = LastMinute::new(begun);
        for tenths in 0..6_000 {
            worked.add(1, begun + Duration::from_millis(100 * tenths));
        }
        assert_eq!(worked.parts.len(), 60);
        assert_eq!(worked.sum(begun + Duration::from_mins(10)), 590);
    }

    #[test]
    fn a_clock_that_is_a_little_behind_loses_nothing() {
        let begun = Instant::now();
        let mut worked = LastMinute::new(begun);
        worked.add(1, begun + Duration::from_secs(5));
        worked.add(2, begun + Duration::from_millis(4_999));
        assert_eq!(worked.sum(begun + Duration::from_secs(5)), 3);
    }
}
