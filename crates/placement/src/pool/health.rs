//! Outlier ejection: a worker that fails requests in a row gets none for a pause, and then one probe.

use std::time::Duration;

use inferyard_domain::InstanceId;

use crate::{Moment, Outcome};

/// Consecutive failures that eject a worker. One failure can be the fault of the request, two can be its retry.
const MOST_FAILURES: u32 = 3;
/// First pause of an ejected worker; doubles with each further ejection, up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause; up to a quarter of jitter is added.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Health of one worker, derived from its answers. The worker's own report counts separately: see `Phase`.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last success.
    failures: u32,
    /// Ejections since the last success.
    ejections: u32,
    ejected: Option<Ejection>,
    /// The last instance whose broken connection was counted. Its other requests are part of the same failure.
    died: Option<InstanceId>,
}

#[derive(Debug)]
struct Ejection {
    until: Moment,
    /// The running probe, if one was sent.
    probe: Option<u64>,
}

/// Whether a worker may get a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It may.
    Full,
    /// It may get one that no other worker has failed, as a probe.
    Probe,
    /// Only if no other worker is available.
    None,
}

// === impl Health ===

impl Health {
    pub(super) fn trust(&self, now: Moment) -> Trust {
        match &self.ejected {
            None => Trust::Full,
            Some(Ejection { until, probe: None }) if *until <= now => Trust::Probe,
            Some(_) => Trust::None,
        }
    }

    /// A request goes to the worker; it becomes the probe if one is due.
    pub(super) fn send(&mut self, serial: u64, now: Moment) {
        if self.trust(now) == Trust::Probe
            && let Some(ejected) = &mut self.ejected
        {
            ejected.probe = Some(serial);
        }
    }

    /// A request has ended. `chance` (its lowest byte) adds jitter to the pause, so that workers and routers do not
    /// probe at once.
    pub(super) fn ended(&mut self, serial: u64, outcome: Outcome, now: Moment, chance: u64) {
        match outcome {
            Outcome::Untold => {}
            Outcome::Succeeded => self.recovered(),
            Outcome::Failed => self.failed(serial, None, now, chance),
            Outcome::Died(instance) => self.failed(serial, instance, now, chance),
        }
        if let Some(ejected) = &mut self.ejected
            && ejected.probe == Some(serial)
        {
            ejected.probe = None;
        }
    }

    /// Called when the worker completed an answer, or returned and reports that it is ready.
    pub(super) fn recovered(&mut self) {
        self.failures = 0;
        self.ejections = 0;
        self.ejected = None;
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    fn failed(&mut self, serial: u64, died: Option<InstanceId>, now: Moment, chance: u64) {
        let counted = died.is_some() && self.died == died;
        self.died = died.or(self.died);
        if let Some(ejected) = &self.ejected {
            // Only the probe counts while ejected: other requests were running already, or had no other worker.
            if ejected.probe == Some(serial) {
                self.eject(now, chance);
            }
        } else if !counted {
            self.failures += 1;
            if self.failures >= MOST_FAILURES {
                self.eject(now, chance);
            }
        }
    }

    fn eject(&mut self, now: Moment, chance: u64) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.ejections);
        let pause = pause.min(LONGEST_PAUSE);
        // Jitter: up to a quarter of the pause.
        let jitter = pause / 4 / 256 * u32::from(chance.to_le_bytes()[0]);
        self.ejections = self.ejections.saturating_add(1).min(16);
        self.ejected = Some(Ejection {
            until: now + pause + jitter,
            probe: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn failed(health: &mut Health, serials: std::ops::Range<u64>) {
        for serial in serials {
            health.ended(serial, Outcome::Failed, at(0), 0);
        }
    }

    #[test]
    fn three_failures_in_a_row_eject_and_a_success_forgets_them() {
        let mut health = Health::default();
        for serial in 0..10 {
            failed(&mut health, 0..2);
            health.ended(serial, Outcome::Untold, at(0), 0);
            assert_eq!(health.trust(at(0)), Trust::Full);
            health.ended(serial, Outcome::Succeeded, at(0), 0);
        }
        failed(&mut health, 0..3);
        assert_eq!(health.trust(at(0)), Trust::None);
        // A success ends the ejection even without a probe.
        health.ended(3, Outcome::Succeeded, at(0), 0);
        assert_eq!(health.trust(at(0)), Trust::Full);
    }

    #[test]
    fn one_request_proves_it_and_pauses_double() {
        let mut health = Health::default();
        failed(&mut health, 0..3);
        let mut now = 0;
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(health.trust(at(now + pause - 1)), Trust::None);
            now += pause;
            assert_eq!(health.trust(at(now)), Trust::Probe);
            health.send(now, at(now));
            assert_eq!(health.trust(at(now)), Trust::None, "one probe at a time");
            // A request from before the ejection does not count.
            health.ended(1, Outcome::Failed, at(now), 0);
            health.ended(now, Outcome::Failed, at(now), 0);
        }
        now += 60;
        health.send(7, at(now));
        health.ended(7, Outcome::Untold, at(now), 0);
        assert_eq!(health.trust(at(now)), Trust::Probe, "its client left");
        health.send(8, at(now));
        health.ended(8, Outcome::Succeeded, at(now), 0);
        assert_eq!(health.trust(at(now)), Trust::Full);
    }

    #[test]
    fn pauses_are_spread_by_chance() {
        let mut health = Health::default();
        for serial in 0..3 {
            health.ended(serial, Outcome::Failed, at(0), 255);
        }
        assert_eq!(health.trust(Moment::from_millis(2_400)), Trust::None);
        assert_eq!(health.trust(Moment::from_millis(2_500)), Trust::Probe);
    }

    #[test]
    fn the_end_of_one_life_is_one_failure() {
        let mut health = Health::default();
        for life in [7, 8] {
            for serial in 0..64 {
                health.ended(serial, Outcome::Died(InstanceId::new(life)), at(0), 0);
            }
            assert_eq!(health.trust(at(0)), Trust::Full);
        }
        health.ended(0, Outcome::Died(InstanceId::new(9)), at(0), 0);
        assert_eq!(health.trust(at(0)), Trust::None);
    }
}
