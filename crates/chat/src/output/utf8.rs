//! Bytes become whole characters; a character that is cut between two tokens waits for its rest.

use std::{borrow::Cow, mem, str};

/// The bytes of a character that is not yet complete.
#[derive(Default)]
pub(super) struct Utf8 {
    // At most three bytes: they can still become one character.
    started: Vec<u8>,
}

impl Utf8 {
    /// The characters that are complete with these bytes. Bytes that can never become a character
    /// are U+FFFD, one for each longest beginning of a character (as browsers do it).
    pub(super) fn push<'t>(&mut self, bytes: &'t [u8]) -> Cow<'t, str> {
        if self.started.is_empty()
            && let Ok(text) = str::from_utf8(bytes)
        {
            return Cow::Borrowed(text);
        }
        let mut bytes_left = mem::take(&mut self.started);
        bytes_left.extend_from_slice(bytes);
        let mut bytes_left = bytes_left.as_slice();
        let mut text = String::with_capacity(bytes_left.len());
        loop {
            let error = match str::from_utf8(bytes_left) {
                Ok(rest) => {
                    text.push_str(rest);
                    break;
                }
                Err(error) => error,
            };
            let (valid, after) = bytes_left.split_at(error.valid_up_to());
            text.push_str(str::from_utf8(valid).expect("should be valid up to there"));
            let Some(invalid) = error.error_len() else {
                self.started = after.to_vec();
                break;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            bytes_left = &after[invalid..];
        }
        Cow::Owned(text)
    }

    /// What stands for a character that will never be complete.
    pub(super) fn finish(&mut self) -> &'static str {
        if mem::take(&mut self.started).is_empty() {
            ""
        } else {
            "\u{FFFD}"
        }
    }
}
