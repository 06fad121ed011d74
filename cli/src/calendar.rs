//! Days and moments of the Gregorian calendar, always in UTC, from and to Unix seconds.

use std::time::SystemTime;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time, date};

/// Seconds of a day. Unix time has no leap seconds.
pub(crate) const DAY: i64 = 86_400;

/// Civil times count seconds from here. A `jiff::Timestamp` would do too, but ends a day before the year 9999 does.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// The day that a moment, in seconds since the Unix epoch, lies in. Years end at 9999.
pub(crate) fn day_of(second: i64) -> Date {
    datetime(second).date()
}

/// The first second of a day, since the Unix epoch.
pub(crate) fn first_second(day: Date) -> i64 {
    day.to_datetime(Time::midnight())
        .duration_since(EPOCH)
        .as_secs()
}

/// `2026-11`.
pub(crate) fn month_text(day: Date) -> String {
    day.strftime("%Y-%m").to_string()
}

/// Reads a day such as `2026-11-22`, from 1970 on.
///
/// # Errors
///
/// The text is no such day.
pub(crate) fn parse_day(text: &str) -> Result<Date, String> {
    let day = Date::strptime("%Y-%m-%d", text).ok();
    day.filter(|day| day.year() >= 1970)
        .ok_or_else(|| "expected a day as in 2026-11-22".to_owned())
}

/// Reads a moment as RFC 3339 writes it, in UTC and whole seconds: `2027-01-31T12:00:00Z`. Returns seconds since the
/// Unix epoch; `None`: the text is no such moment.
pub(crate) fn parse_moment(text: &str) -> Option<u64> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let day = parse_day(day).ok()?;
    let read = Time::strptime("%H:%M:%S", time).ok()?;
    // Parsing is lenient (`1:00:00`, a leap second); only the canonical form is accepted.
    let canonical = read.strftime("%H:%M:%S").to_string() == time;
    let second = day.to_datetime(read).duration_since(EPOCH).as_secs();
    second.try_into().ok().filter(|_| canonical)
}

/// Writes a moment, in seconds since the Unix epoch, so that [`parse_moment`] reads it.
pub(crate) fn moment_text(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    datetime(second).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|now| i64::try_from(now.as_secs()).ok())
        .unwrap_or(0)
}

fn datetime(second: i64) -> DateTime {
    EPOCH.saturating_add(SignedDuration::from_secs(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_written() {
        let table = [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2026-11-22", 1_795_305_600),
            ("2100-03-01", 4_107_542_400),
            ("9999-12-31", 253_402_214_400),
        ];
        for (text, second) in table {
            let day = parse_day(text).unwrap();
            assert_eq!(first_second(day), second, "{text}");
            assert_eq!(day_of(second + DAY - 1).to_string(), text);
            assert_eq!(month_text(day), text[..7]);
        }
        assert_eq!(parse_day("2026-1-2"), parse_day("2026-01-02"));
        for wrong in [
            "",
            "2026",
            "2026-02-29",
            "2026-13-01",
            "26-1-1",
            "1969-12-31",
            "2026-1-0",
            "2026-01-01 ",
            "10000-01-01",
        ] {
            assert!(parse_day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_795_348_801, "2026-11-22T12:00:01Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(moment_text(seconds), text);
            assert_eq!(parse_moment(text), Some(seconds));
        }
        for wrong in [
            "",
            "Z",
            "2026-11-22",
            "2026-11-22T12:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12:00:60Z",
            "2026-11-22T12-00-00Z",
            "2026-11-22T12:00:00+01:00",
            "2026-11-22T1:00:00Z",
            "2026-11-22T+1:00:00Z",
            "2026-11-22T12:00:ü0Z",
        ] {
            assert_eq!(parse_moment(wrong), None, "{wrong}");
        }
    }
}
