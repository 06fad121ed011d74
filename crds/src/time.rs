//! Durations in resources, such as `30s`, `10m` and `1h30m`.

/// The pattern of a duration.
pub(crate) const PATTERN: &str = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$";

/// The seconds of a duration. None: the text does not match the pattern.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let (mut seconds, mut number) = (0_u64, 0_u64);
    for character in text.chars() {
        let unit = match (character, character.to_digit(10)) {
            (_, Some(digit)) => {
                number = number.saturating_mul(10).saturating_add(digit.into());
                continue;
            }
            ('h', _) => 3600,
            ('m', _) => 60,
            ('s', _) => 1,
            _ => return None,
        };
        seconds = seconds.saturating_add(number.saturating_mul(unit));
        number = 0;
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("1h30m5s", Some(5405)),
            ("0s", Some(0)),
            ("5d", None),
            ("1.5s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
