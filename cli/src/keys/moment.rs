//! Moments as RFC 3339 writes them, in UTC and whole seconds: `2027-01-31T12:00:00Z`.

use crate::calendar::{DAY, Date};

/// Seconds since the Unix epoch; `None`: not such a moment.
pub(super) fn read(text: &str) -> Option<u64> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let day: Date = day.parse().ok()?;
    let part = |range, limit| {
        let digits: &str = time.get(range)?;
        let number: i64 = digits.parse().ok().filter(|number| *number < limit)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(number)
    };
    let (hour, minute, second) = (part(0..2, 24)?, part(3..5, 60)?, part(6..8, 60)?);
    let separated = time.len() == 8 && &time[2..3] == ":" && &time[5..6] == ":";
    let moment = day.first_second() + 3_600 * hour + 60 * minute + second;
    moment.try_into().ok().filter(|_| separated)
}

/// The moment so many seconds after the Unix epoch.
pub(super) fn write(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let of_day = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", Date::of(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_795_348_801, "2026-11-22T12:00:01Z"),
        ] {
            assert_eq!(write(seconds), text);
            assert_eq!(read(text), Some(seconds));
        }
        for wrong in [
            "",
            "Z",
            "2026-11-22",
            "2026-11-22T12:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12-00-00Z",
            "2026-11-22T12:00:00+01:00",
            "2026-11-22T+1:00:00Z",
            "2026-11-22T12:00:ü0Z",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
