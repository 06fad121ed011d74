//! Days of the Gregorian calendar, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    year: i64,
    month: i64,
    day: i64,
}

// === impl Date ===

impl Date {
    /// The day of a moment, in seconds since the Unix epoch.
    pub(crate) fn of(second: i64) -> Self {
        // Eras of 400 years that begin in March, so that a leap day is the last of its year.
        let days = second.div_euclid(DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: year + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
        }
    }

    /// Its first second, since the Unix epoch.
    pub(crate) fn first_second(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let from_march = (self.month + 9) % 12;
        let of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        (era * 146_097 + days - 719_468) * DAY
    }

    /// `2026-11`.
    pub(crate) fn month_text(self) -> String {
        format!("{:04}-{:02}", self.year, self.month)
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|now| i64::try_from(now.as_secs()).ok())
        .unwrap_or(0)
}

/// `2026-11-22`.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "expected a day as in 2026-11-22".to_owned();
        let parts: Vec<i64> = text
            .split('-')
            .map(|part| part.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        let [year, month, day] = parts[..] else {
            return Err(wrong());
        };
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return Err(wrong());
        }
        let date = Self { year, month, day };
        // The 31st of February is another day when it is read back.
        if Self::of(date.first_second()) != date {
            return Err(wrong());
        }
        Ok(date)
    }
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
        ];
        for (text, second) in table {
            let date: Date = text.parse().unwrap();
            assert_eq!(date.first_second(), second, "{text}");
            assert_eq!(Date::of(second + DAY - 1).to_string(), text);
            assert_eq!(date.month_text(), text[..7]);
        }
        for wrong in ["", "2026", "2026-02-29", "2026-13-01", "26-1-1", "2026-1-0"] {
            assert!(wrong.parse::<Date>().is_err(), "{wrong}");
        }
    }
}
