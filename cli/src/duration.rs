//! Durations on the command line: `50us`, `250ms`, `30s` or `30`, `5m`, `24h`, `90d`.

use std::time::Duration;

/// Reads a duration; a number without a unit means seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u32 = number.parse().map_err(|_| expected())?;
    match unit {
        "us" => Ok(Duration::from_micros(number.into())),
        "ms" => Ok(Duration::from_millis(number.into())),
        "" | "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(60 * u64::from(number))),
        "h" => Ok(Duration::from_secs(3600 * u64::from(number))),
        "d" => Ok(Duration::from_secs(86_400 * u64::from(number))),
        _ => Err(expected()),
    }
}

/// Reads a duration above zero.
pub(crate) fn parse_some(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("expected more than nothing".to_owned()),
        duration => Ok(duration),
    }
}

fn expected() -> String {
    "expected a duration such as 500ms, 30s, 5m, 24h or 90d".to_owned()
}

/// The argument that [`parse`] reads back as this duration.
pub(crate) fn argument(duration: Duration) -> String {
    match duration.subsec_micros() % 1_000 {
        0 => format!("{}ms", duration.as_millis()),
        _ => format!("{}us", duration.as_micros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_everything_else_is_refused() {
        let table = [
            ("250ms", 250),
            ("0", 0),
            ("30", 30_000),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("90d", 7_776_000_000),
        ];
        for (text, millis) in table {
            assert_eq!(
                parse(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for wrong in ["", "s", "-1", "1.5s", "1w", "1 s", "99999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for time in [Duration::from_secs(4_000_000), Duration::from_micros(50)] {
            assert_eq!(parse(&argument(time)).unwrap(), time);
        }
    }
}
