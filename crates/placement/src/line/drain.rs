//! How fast requests leave the line: an average of the last half minute.

use std::time::Duration;

use crate::Moment;

/// After this time a departure counts for a third.
const MEMORY: Duration = Duration::from_secs(30);
/// The first ones are spread over at least this time.
const LEAST: Duration = Duration::from_secs(1);
/// Of what is less than this, nothing is left to go by.
const FORGOTTEN: f64 = 0.05;

/// Departures, the older the less.
#[derive(Debug, Default)]
pub(super) struct Drain {
    count: f64,
    at: Moment,
    since: Moment,
}

// === impl Drain ===

impl Drain {
    /// A request left for a worker.
    pub(super) fn left(&mut self, now: Moment) {
        let count = self.count(now);
        if count < FORGOTTEN {
            self.since = now;
        }
        self.count = count + 1.0;
        self.at = now;
    }

    /// Departures per second; `None`: there were none lately.
    pub(super) fn pace(&self, now: Moment) -> Option<f64> {
        let count = self.count(now);
        let age = now.saturating_sub(self.since).max(LEAST);
        let memory = MEMORY.as_secs_f64();
        let weight = memory * (1.0 - (-age.as_secs_f64() / memory).exp());
        (count >= FORGOTTEN).then(|| count / weight)
    }

    fn count(&self, now: Moment) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.count * (-passed / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pace after so many seconds of 4 departures per second, which began at 1000 s.
    fn pace(seconds: u32) -> f64 {
        let mut drain = Drain::default();
        let begin = Moment::from_secs(1_000);
        for quarter in 0..seconds * 4 {
            drain.left(begin + Duration::from_millis(250) * quarter);
        }
        drain
            .pace(begin + Duration::from_secs(1) * seconds)
            .unwrap()
    }

    #[test]
    fn a_steady_pace_is_known_from_its_first_seconds_on() {
        for seconds in [1, 5, 30, 300] {
            let pace = pace(seconds);
            assert!((3.5..4.5).contains(&pace), "{pace} after {seconds} s");
        }
    }

    #[test]
    fn a_line_that_stands_gets_slower_and_is_forgotten() {
        let mut drain = Drain::default();
        assert_eq!(drain.pace(Moment::from_secs(1)), None);
        drain.left(Moment::from_secs(1));
        let paces = [2, 20, 60].map(|at| drain.pace(Moment::from_secs(at)).unwrap());
        assert!(paces[0] > paces[1] && paces[1] > paces[2], "{paces:?}");
        assert_eq!(drain.pace(Moment::from_secs(200)), None);
    }
}
