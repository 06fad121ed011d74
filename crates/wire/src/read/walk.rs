//! Walks members and elements of a body, and reports why a walk ends early.

use super::cursor::{Broken, Cursor, Raw};
use super::{Param, ReadError};

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The body is not JSON.
    Broken(Broken),
    /// The body is not a valid request.
    Wrong(ReadError),
}

/// Walks a text that is known to be an object.
pub(super) fn members<'a>(
    text: &'a [u8],
    member: impl FnMut(&mut Cursor<'a>, Raw<'a>) -> Result<(), Stop>,
) -> Result<(), ReadError> {
    Cursor::new(text)
        .object(member)
        .map_err(|stop| stop.told(text))
}

/// Walks a text that is known to be an array.
pub(super) fn elements<'a>(
    text: &'a [u8],
    element: impl FnMut(&mut Cursor<'a>, usize) -> Result<(), Stop>,
) -> Result<(), ReadError> {
    Cursor::new(text)
        .array(element)
        .map_err(|stop| stop.told(text))
}

// === impl Stop ===

impl Stop {
    /// Converts to the caller's error, with line and column.
    pub(super) fn told(self, text: &[u8]) -> ReadError {
        match self {
            Self::Wrong(error) => error,
            Self::Broken(broken) => {
                if let Some(path) = broken.key_twice(text) {
                    let param = Param(path);
                    return ReadError::Twice { param };
                }
                let Broken { at, what } = broken;
                let before = &text[..at.min(text.len())];
                let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
                ReadError::NotJson {
                    what,
                    line: memchr::memchr_iter(b'\n', before).count() + 1,
                    column: at - line_start + 1,
                }
            }
        }
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Wrong(error)
    }
}
