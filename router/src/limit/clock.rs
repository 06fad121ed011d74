//! The time of day, and the calendar month that it lies in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

const DAY_US: u64 = 86_400_000_000;

/// The time of day at the start, and what has passed since by the clock that never jumps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    at_start_us: u64,
    start: Instant,
}

// === impl Clock ===

impl Clock {
    pub(super) fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            at_start_us: micros(now.unwrap_or_default()),
            start: Instant::now(),
        }
    }

    /// Microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> u64 {
        self.at_start_us + micros(self.start.elapsed())
    }

    /// Milliseconds since the start.
    pub(super) fn elapsed_ms(&self) -> u64 {
        micros(self.start.elapsed()) / 1_000
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The day (UTC), counted from the Unix epoch.
pub(super) fn day(now_us: u64) -> u64 {
    now_us / DAY_US
}

/// The first moment of the calendar month (UTC), and the first of the next one.
pub(super) fn month(now_us: u64) -> (u64, u64) {
    let (year, month) = year_and_month(day(now_us));
    let next = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    let moment = |(year, month)| first_day(year, month) * DAY_US;
    (moment((year, month)), moment(next))
}

/// Days are counted from 1 March of year 0, so that a leap day is the last day of its year; eras of
/// 400 years are all alike (Howard Hinnant's algorithm).
fn year_and_month(day: u64) -> (u64, u64) {
    let day = day + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_based = (5 * of_year + 2) / 153;
    let month = if march_based < 10 {
        march_based + 3
    } else {
        march_based - 9
    };
    (year + era * 400 + u64::from(month <= 2), month)
}

fn first_day(year: u64, month: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let march_based = (month + 9) % 12;
    let of_era = year % 400;
    let of_year = (153 * march_based + 2) / 5;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    year / 400 * 146_097 + days - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `date -u -d … +%s`.
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
