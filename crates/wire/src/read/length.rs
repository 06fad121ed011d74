//! Checks the length of texts, in characters.

use super::{Length, Param, ReadError};

/// Refuses a text of more than `longest` characters.
pub(super) fn check_length(name: &str, text: &str, longest: usize) -> Result<(), ReadError> {
    if text.len() <= longest {
        return Ok(());
    }
    let length = text.chars().count();
    if length <= longest {
        return Ok(());
    }
    Err(ReadError::Length {
        param: Param::new(name),
        of: Length::LongString,
        problem: format!(
            "string too long. Expected a string with maximum length {longest}, but got a string \
             with length {length} instead."
        ),
    })
}
