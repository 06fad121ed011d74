//! A string in a JSON text, not decoded.

use std::borrow::Cow;
use std::ops::Range;

/// A string of the text: the bytes between the quotes.
#[derive(Debug, Clone, Copy)]
pub(in crate::read) struct Raw<'a> {
    pub(super) text: &'a [u8],
    /// Offset of the first byte after the quote.
    pub(super) start: usize,
    pub(super) escaped: bool,
}

// === impl Raw ===

impl<'a> Raw<'a> {
    /// The bytes including escapes.
    pub(in crate::read) fn bytes(self) -> &'a [u8] {
        self.text
    }

    /// Whether the decoded string equals `text`.
    pub(in crate::read) fn is(self, text: &str) -> bool {
        *self.name() == *text.as_bytes()
    }

    /// The decoded bytes, for comparisons: JSON allows escapes of any character.
    pub(in crate::read) fn name(self) -> Cow<'a, [u8]> {
        if self.escaped {
            Cow::Owned(self.decoded().into_bytes())
        } else {
            Cow::Borrowed(self.text)
        }
    }

    /// The range in the text, including the quotes.
    pub(in crate::read) fn quoted(self) -> Range<usize> {
        self.start - 1..self.start + self.text.len() + 1
    }

    /// The decoded string.
    pub(in crate::read) fn decoded(self) -> String {
        if self.escaped {
            let quoted = [b"\"", self.text, b"\""].concat();
            // The cursor has checked the escapes; invalid UTF-8 is found only at the end of the walk.
            serde_json::from_slice(&quoted).unwrap_or_default()
        } else {
            String::from_utf8_lossy(self.text).into_owned()
        }
    }
}
