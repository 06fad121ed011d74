//! The date, as chat templates ask for it.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

const DAY: u64 = 24 * 60 * 60;
const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const MONTHS: [(&str, u64); 12] = [
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
];

/// `time` in UTC, in the notation of C's `strftime`. Unknown directives stay as they are.
pub(super) fn format(time: SystemTime, format: &str) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / DAY);
    let (month_name, _) = MONTHS[month];
    let weekday = WEEKDAYS[usize::try_from(seconds / DAY % 7).unwrap_or_default()];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        let directive = if character == '%' {
            characters.next()
        } else {
            None
        };
        let written = match directive {
            None => write!(text, "{character}"),
            Some('Y') => write!(text, "{year}"),
            Some('y') => write!(text, "{:02}", year % 100),
            Some('m') => write!(text, "{:02}", month + 1),
            Some('B') => write!(text, "{month_name}"),
            Some('b' | 'h') => write!(text, "{}", &month_name[..3]),
            Some('d') => write!(text, "{day:02}"),
            Some('e') => write!(text, "{day:2}"),
            Some('A') => write!(text, "{weekday}"),
            Some('a') => write!(text, "{}", &weekday[..3]),
            Some('H') => write!(text, "{hour:02}"),
            Some('M') => write!(text, "{minute:02}"),
            Some('S') => write!(text, "{second:02}"),
            Some('F') => write!(text, "{year}-{:02}-{day:02}", month + 1),
            Some('T') => write!(text, "{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => write!(text, "UTC"),
            Some('%') => write!(text, "%"),
            Some(other) => write!(text, "%{other}"),
        };
        written.expect("a text should be writable");
    }
    text
}

/// Year, month from 0 and day from 1 of a day since 1970.
fn date(mut day: u64) -> (u64, usize, u64) {
    let mut year = 1970;
    loop {
        let leap = u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        if day >= 365 + leap {
            day -= 365 + leap;
            year += 1;
            continue;
        }
        let mut month = 0;
        loop {
            let days = MONTHS[month].1 + if month == 1 { leap } else { 0 };
            if day < days {
                return (year, month, day + 1);
            }
            day -= days;
            month += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_written_as_asked() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(
            format(at(0), "%A %d %B %Y %H:%M:%S"),
            "Thursday 01 January 1970 00:00:00"
        );
        assert_eq!(format(at(951_782_400), "%d %b %Y"), "29 Feb 2000");
        assert_eq!(
            format(at(1_735_689_599), "%F %T %a %y %e %%"),
            "2024-12-31 23:59:59 Tue 24 31 %"
        );
        assert_eq!(format(at(4_107_542_400), "%F %Q%"), "2100-03-01 %Q%");
    }
}
