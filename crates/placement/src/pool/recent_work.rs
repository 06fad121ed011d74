//! A worker's recent work, as an exponentially decaying sum.

use std::time::Duration;

use crate::Moment;

/// Time after which a token of work counts for 1/e. About as long as a cached prefix stays useful.
const MEMORY: Duration = Duration::from_mins(5);

/// Tokens of work; older tokens count less.
#[derive(Debug, Default)]
pub(super) struct RecentWork {
    tokens: f64,
    at: Moment,
    /// The worker's running total at its last report.
    total: Option<u64>,
}

// === impl RecentWork ===

impl RecentWork {
    /// Takes the worker's running total of tokens.
    pub(super) fn total(&mut self, total: u64, now: Moment) {
        if let Some(before) = self.total.replace(total) {
            self.add(total.saturating_sub(before), now);
        }
    }

    /// The next total belongs to another instance.
    pub(super) fn restarted(&mut self) {
        self.total = None;
    }

    /// The decayed tokens of work at `now`.
    pub(super) fn tokens(&self, now: Moment) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens * (-passed / MEMORY.as_secs_f64()).exp()
    }

    /// Raises the tokens of work to at least `least`.
    pub(super) fn raise(&mut self, least: f64, now: Moment) {
        self.tokens = self.tokens(now).max(least);
        self.at = now;
    }

    #[expect(clippy::cast_precision_loss, reason = "an average")]
    fn add(&mut self, tokens: u64, now: Moment) {
        self.tokens = self.tokens(now) + tokens as f64;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn work_is_forgotten_slowly() {
        let mut lately = RecentWork::default();
        lately.total(5_000, SECOND);
        assert!(
            lately.tokens(SECOND).abs() < 1e-9,
            "of its earlier instance"
        );
        lately.total(6_000, SECOND);
        assert!((lately.tokens(SECOND) - 1_000.0).abs() < 1e-9);
        let later = lately.tokens(SECOND + MEMORY);
        assert!((later - 367.88).abs() < 0.01, "{later}");
        lately.total(6_100, SECOND + MEMORY);
        assert!((lately.tokens(SECOND + MEMORY) - later - 100.0).abs() < 1e-9);
    }

    #[test]
    fn another_life_counts_from_its_own_beginning() {
        let mut lately = RecentWork::default();
        lately.total(5_000, SECOND);
        lately.restarted();
        lately.total(10, SECOND);
        lately.total(30, SECOND);
        assert!((lately.tokens(SECOND) - 20.0).abs() < 1e-9);
    }
}
