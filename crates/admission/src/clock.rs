//! The wall-clock time and the calendar month around it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, date};
use jiff::{SignedDuration, ToSpan};
use tokio::time::Instant;

const DAY_US: u64 = 86_400_000_000;
const EPOCH: Date = date(1970, 1, 1);

/// Microseconds between two reads of the system clock.
const CHECK_US: u64 = 1_000_000;
/// Smallest difference from the system clock, in microseconds, that counts as a jump.
const JUMP_US: u64 = 1_000_000;

/// The wall-clock time, and the steady time since the start.
///
/// Between two reads of the system clock, wall-clock time follows the steady clock. A jump of the system clock is
/// detected at the first call at least a second after the last read. It jumps when it is set, or after the machine
/// was suspended, during which the steady clock stands still.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    /// Reads the system clock, in microseconds since the Unix epoch.
    system: fn() -> u64,
    /// The wall-clock time at `start`, corrected by all jumps since.
    start_us: AtomicU64,
    /// Microseconds by which the system clock was set back and not yet forward again.
    lead_us: AtomicU64,
    /// Microseconds since `start` at which the system clock is read again.
    check_us: AtomicU64,
}

// === impl Clock ===

impl Clock {
    /// A clock that follows the system clock.
    pub(super) fn start() -> Self {
        Self::following(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            micros(now.unwrap_or_default())
        })
    }

    pub(super) fn following(system: fn() -> u64) -> Self {
        Self {
            start: Instant::now(),
            system,
            start_us: AtomicU64::new(system()),
            lead_us: AtomicU64::new(0),
            check_us: AtomicU64::new(CHECK_US),
        }
    }

    /// Wall-clock time, in microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> u64 {
        let elapsed_us = self.elapsed_us();
        // The sum may wrap: the system clock may have been set to before the start.
        let told = self
            .start_us
            .load(Ordering::Relaxed)
            .wrapping_add(elapsed_us);
        if elapsed_us < self.check_us.load(Ordering::Relaxed) {
            return told;
        }
        self.check_us
            .store(elapsed_us.saturating_add(CHECK_US), Ordering::Relaxed);
        let system = (self.system)();
        let jump = system.abs_diff(told);
        if jump < JUMP_US {
            return told;
        }
        // Two callers may detect the same jump at once. Both store the same system time, but only the one whose swap
        // returns the old value counts the jump, so it counts once.
        let start_us = system.wrapping_sub(elapsed_us);
        let before = self.start_us.swap(start_us, Ordering::Relaxed);
        if before.wrapping_add(elapsed_us) == told {
            let lead_us = self.lead_us.load(Ordering::Relaxed);
            let lead_us = if system < told {
                lead_us.saturating_add(jump)
            } else {
                lead_us.saturating_sub(jump)
            };
            self.lead_us.store(lead_us, Ordering::Relaxed);
        }
        system
    }

    /// How far [`now_us`](Self::now_us) is behind its value without the jumps back, in microseconds. `now_us` plus
    /// this never goes back, so buckets keep leaking.
    pub(super) fn lead_us(&self) -> u64 {
        self.lead_us.load(Ordering::Relaxed)
    }

    /// Microseconds since the start by the steady clock.
    pub(super) fn elapsed_us(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// Milliseconds since the start by the steady clock.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.elapsed_us() / 1_000
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The day (UTC), counted from the Unix epoch.
pub(super) fn day(now_us: u64) -> u64 {
    now_us / DAY_US
}

/// The first microseconds of the calendar month (UTC) that a moment lies in, and of the next month. Both are, as the
/// moment is, microseconds since the Unix epoch.
pub(super) fn month(now_us: u64) -> (u64, u64) {
    let days = i64::try_from(day(now_us)).unwrap_or(i64::MAX);
    let today = EPOCH.saturating_add(SignedDuration::from_hours(days.saturating_mul(24)));
    let first = today.first_of_month();
    let next = first.saturating_add(1.month());
    let micros = |date: Date| {
        let since = date.duration_since(EPOCH).as_micros();
        u64::try_from(since).unwrap_or(0)
    };
    (micros(first), micros(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR_US: u64 = 3_600_000_000;

    /// A clock that follows a value set by the test.
    fn set_by_hand() -> (Clock, impl Fn(u64)) {
        thread_local! {
            static SYSTEM: std::cell::Cell<u64> = const { std::cell::Cell::new(1 << 50) };
        }
        let set = |us| SYSTEM.with(|system| system.set(us));
        (Clock::following(|| SYSTEM.with(std::cell::Cell::get)), set)
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_systems_clock_is_followed_within_seconds() {
        let (clock, set) = set_by_hand();
        let begin = clock.now_us();
        // The machine was suspended for ten hours: the steady clock stood still.
        set(begin + 10 * HOUR_US);
        assert_eq!(clock.now_us(), begin, "the system is not asked each time");
        tokio::time::advance(SECOND).await;
        set(begin + 10 * HOUR_US + 1_000_000);
        assert_eq!(clock.now_us(), begin + 10 * HOUR_US + 1_000_000);
        assert_eq!(
            clock.elapsed_us(),
            1_000_000,
            "the steady clock never jumps"
        );
        // Set back to the right time.
        tokio::time::advance(SECOND).await;
        set(begin + 2_000_000);
        assert_eq!(clock.now_us(), begin + 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_looks_time_does_not_go_back() {
        let (clock, set) = set_by_hand();
        let begin = clock.now_us();
        let mut last = begin;
        // A clock that jitters by half a second.
        for step in 1..200_u64 {
            tokio::time::advance(Duration::from_millis(70)).await;
            set(begin + step * 70_000 - (step % 2) * 50_000 + (step % 3) * 400_000);
            let now = clock.now_us();
            assert!(now > last, "{now} after {last}");
            last = now;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_with_time_goes_on_when_the_clock_is_set_back() {
        let (clock, set) = set_by_hand();
        let begin = clock.now_us();
        let mut last = begin;
        let jumps = [-2_i64, 3, -1, 1, 5, -7];
        let mut system = begin;
        for hours in jumps {
            tokio::time::advance(SECOND * 2).await;
            system = system.wrapping_add_signed(hours * HOUR_US.cast_signed());
            system += 2_000_000;
            set(system);
            assert_eq!(clock.now_us(), system);
            let forward = clock.now_us() + clock.lead_us();
            assert!(forward >= last + 2_000_000, "{forward} after {last}");
            last = forward;
        }
        assert_eq!(clock.lead_us(), 7 * HOUR_US);
    }

    /// Values from `date -u -d … +%s`.
    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        let cases = [
            (0, 0, 2_678_400),
            (951_782_400, 949_363_200, 951_868_800),
            (1_709_164_800, 1_706_745_600, 1_709_251_200),
            (1_767_225_599, 1_764_547_200, 1_767_225_600),
            (1_767_225_600, 1_767_225_600, 1_769_904_000),
            (4_107_542_399, 4_105_123_200, 4_107_542_400),
        ];
        for (now, first, next) in cases {
            let expected = (first * 1_000_000, next * 1_000_000);
            assert_eq!(month(now * 1_000_000), expected, "{now}");
        }
    }
}
