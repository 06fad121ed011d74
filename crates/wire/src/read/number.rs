//! Parses numbers within bounds.

use std::ops::RangeInclusive;

use super::cursor::Kind;
use super::text::shortened;
use super::{NumberKind, Param, ReadError};

/// Parses an integer within a range.
pub(super) fn integer<T>(name: &str, text: &str, range: RangeInclusive<T>) -> Result<T, ReadError>
where
    T: Copy + PartialOrd + TryFrom<i128> + Into<i128>,
{
    if text.contains(['.', 'e', 'E']) {
        return Err(ReadError::Type {
            param: Param::new(name),
            expected: "an integer",
            got: "a decimal number",
        });
    }
    let negative = text.starts_with('-');
    match text
        .parse::<i128>()
        .ok()
        .and_then(|wide| T::try_from(wide).ok())
    {
        Some(value) if range.contains(&value) => Ok(value),
        value => {
            let below = value.map_or(negative, |value| value < *range.start());
            let bound: i128 = if below { *range.start() } else { *range.end() }.into();
            Err(ReadError::OutOfRange {
                param: Param::new(name),
                number: NumberKind::Integer,
                below,
                bound: bound.to_string(),
                got: shortened(text),
            })
        }
    }
}

/// Parses a number within a range.
pub(super) fn decimal(
    name: &str,
    text: &str,
    range: RangeInclusive<f32>,
) -> Result<f32, ReadError> {
    let value: f32 = text.parse().unwrap_or(f32::INFINITY);
    if range.contains(&value) {
        return Ok(value);
    }
    let below = value < *range.start();
    let bound = if below { range.start() } else { range.end() };
    Err(ReadError::OutOfRange {
        param: Param::new(name),
        number: NumberKind::Decimal,
        below,
        bound: bound.to_string(),
        got: shortened(text),
    })
}

/// The text of a number, or an error if the value is not one.
pub(super) fn number_text<'a>(
    name: &str,
    expected: &'static str,
    kind: Kind,
    text: &'a [u8],
) -> Result<&'a str, ReadError> {
    if kind != Kind::Number {
        return Err(ReadError::wrong_type(name, expected, kind));
    }
    Ok(std::str::from_utf8(text).expect("should be ASCII: the walk has seen a number"))
}
