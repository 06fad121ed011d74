//! Money as people read it.

/// Nano-dollars as dollars, to the last digit: a JSON number.
#[must_use]
pub fn dollars(nano: i64) -> String {
    let text = format!(
        "{}{}.{:09}",
        if nano < 0 { "-" } else { "" },
        nano.unsigned_abs() / 1_000_000_000,
        nano.unsigned_abs() % 1_000_000_000
    );
    let text = text.trim_end_matches('0');
    match text.strip_suffix('.') {
        Some(whole) => format!("{whole}.0"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::dollars;

    #[test]
    fn money_is_written_to_the_last_digit() {
        let table = [
            (0, "0.0"),
            (1, "0.000000001"),
            (5_000, "0.000005"),
            (1_000_000_000, "1.0"),
            (12_340_000_000, "12.34"),
            (-1_500_000_000, "-1.5"),
            (i64::MAX, "9223372036.854775807"),
        ];
        for (nano, text) in table {
            assert_eq!(dollars(nano), text);
        }
    }
}
