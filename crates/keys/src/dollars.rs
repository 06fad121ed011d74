//! Dollars as people write them, and as integer nano-dollars.

/// Digits behind the point: a nano-dollar is the smallest amount.
const DIGITS: usize = 9;
const ONE: u64 = 1_000_000_000;

/// Reads an amount such as `25` or `0.50`, exactly; nothing finer than a nano-dollar.
#[must_use]
pub fn nanodollars(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > DIGITS || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().ok()?;
    whole.checked_mul(ONE)?.checked_add(fraction)
}

/// Writes an amount with two digits behind the point, or as many as it has.
#[must_use]
pub fn dollars(nanodollars: u64) -> String {
    let fraction = format!("{:0DIGITS$}", nanodollars % ONE);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!("{}.{}", nanodollars / ONE, &fraction[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_both_ways() {
        let table = [
            ("25.00", 25_000_000_000),
            ("0.50", 500_000_000),
            ("0.000000001", 1),
            ("18446744073.709551615", u64::MAX),
        ];
        for (text, amount) in table {
            assert_eq!(nanodollars(text), Some(amount), "{text}");
            assert_eq!(dollars(amount), text);
        }
        assert_eq!(nanodollars("25"), Some(25_000_000_000));
        for wrong in [
            "",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e3",
            "1,5",
            " 1",
            "0.0000000001",
            "18446744074",
            "1.2.3",
        ] {
            assert_eq!(nanodollars(wrong), None, "{wrong}");
        }
    }
}
