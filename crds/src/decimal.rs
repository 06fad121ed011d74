//! Exact amounts of money from decimal strings.

/// Decimals of a dollar down to a nano-dollar.
pub const OF_A_DOLLAR: usize = 9;

/// Decimals of a price per million tokens down to a nano-dollar per token.
pub const OF_A_PRICE: usize = 3;

/// A decimal number times ten to the power of `decimals`, exactly. None: the text does not match the patterns of the
/// schemas, which limit the digits on both sides of the point.
#[must_use]
pub fn decimal(text: &str, decimals: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > decimals || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<decimals$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        for (text, decimals, expected) in [
            ("25.00", OF_A_DOLLAR, Some(25_000_000_000)),
            ("25", OF_A_DOLLAR, Some(25_000_000_000)),
            ("0.1", OF_A_DOLLAR, Some(100_000_000)),
            ("0.000000001", OF_A_DOLLAR, Some(1)),
            (
                "9999999.999999999",
                OF_A_DOLLAR,
                Some(9_999_999_999_999_999),
            ),
            ("0.00", OF_A_DOLLAR, Some(0)),
            ("5", OF_A_PRICE, Some(5_000)),
            ("0.30", OF_A_PRICE, Some(300)),
            ("0.001", OF_A_PRICE, Some(1)),
            ("999999.999", OF_A_PRICE, Some(999_999_999)),
            ("0.0001", OF_A_PRICE, None),
            ("", OF_A_PRICE, None),
            ("-5", OF_A_PRICE, None),
            ("5.x", OF_A_PRICE, None),
        ] {
            assert_eq!(decimal(text, decimals), expected, "{text}");
        }
    }
}
