//! The rate at which requests leave the queue: a decaying average over about half a minute.

use std::time::Duration;

use crate::Moment;

/// Time after which a departure counts for 1/e.
const MEMORY: Duration = Duration::from_secs(30);
/// Shortest period over which the first departures are averaged.
const LEAST: Duration = Duration::from_secs(1);
/// Decayed count below which no rate is given.
const FORGOTTEN: f64 = 0.05;

/// Departures; older ones count less.
#[derive(Debug, Default)]
pub(super) struct Departures {
    count: f64,
    at: Moment,
    since: Moment,
}

// === impl Departures ===

impl Departures {
    /// A request left for a worker.
    pub(super) fn left(&mut self, now: Moment) {
        let count = self.count(now);
        if count < FORGOTTEN {
            self.since = now;
        }
        self.count = count + 1.0;
        self.at = now;
    }

    /// Departures per second; `None`: none recently.
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

    /// The pace after `seconds` of 4 departures per second, starting at 1000 s.
    fn pace(seconds: u32) -> f64 {
        let mut drain = Departures::default();
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
        let mut drain = Departures::default();
        assert_eq!(drain.pace(Moment::from_secs(1)), None);
        drain.left(Moment::from_secs(1));
        let paces = [2, 20, 60].map(|at| drain.pace(Moment::from_secs(at)).unwrap());
        assert!(paces[0] > paces[1] && paces[1] > paces[2], "{paces:?}");
        assert_eq!(drain.pace(Moment::from_secs(200)), None);
    }
}
