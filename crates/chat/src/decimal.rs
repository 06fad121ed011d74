//! Numbers as JSON writes them, compared without rounding.

/// A decimal number: its digits as one whole number, times a power of ten. Equal numbers are equal values, however
/// they are written; 0 and -0 are different.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// It begins with a minus.
    pub(crate) is_negative: bool,
    /// The digits without zeros at either end; empty: the number is zero.
    pub(crate) digits: String,
    /// The power of ten that the digits are multiplied by; 0 where there are none.
    pub(crate) exponent: i64,
}

// === impl Decimal ===

impl Decimal {
    /// Reads a number of JSON, or one that Rust has printed.
    pub(crate) fn parse(number: &str) -> Self {
        let (is_negative, number) = match number.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, number),
        };
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = [whole, fraction].concat();
        let kept = all.trim_end_matches('0');
        // No number that a double holds has an exponent beyond an i64, nor has its text so many digits.
        let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
        let exponent = exponent.parse().unwrap_or(i64::MAX);
        let moved = length(&all) - length(kept) - length(fraction);
        let digits = kept.trim_start_matches('0').to_owned();
        Self {
            is_negative,
            exponent: if digits.is_empty() {
                0
            } else {
                exponent.saturating_add(moved)
            },
            digits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        for same in [
            ["10", "1e1"],
            ["10.0", "1E+1"],
            ["0.010", "1e-2"],
            ["-12.50", "-125e-1"],
            ["0", "0.00e7"],
            ["100000000000000000000", "1e20"],
        ] {
            let [one, other] = same.map(Decimal::parse);
            assert_eq!(one, other, "{same:?}");
        }
        for different in [
            ["1", "-1"],
            ["1", "10"],
            ["0", "-0"],
            ["9007199254740993", "9007199254740992"],
        ] {
            let [one, other] = different.map(Decimal::parse);
            assert_ne!(one, other, "{different:?}");
        }
    }
}
