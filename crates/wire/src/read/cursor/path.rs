//! The path of a key, found by a second walk: a walk that fails knows only an offset.

use super::{Broken, Cursor, Kind};
use crate::read::text::shortened;

/// Why the second walk ends early.
enum Found {
    /// The key: the steps of its path from the inside out.
    Key(Vec<String>),
    /// The text differs from that of the first walk.
    Nothing,
}

/// The path of the key at an offset of a text, for example `messages[2].content`.
pub(super) fn to(text: &[u8], at: usize) -> String {
    match find(&mut Cursor::new(text), at) {
        Err(Found::Key(steps)) => {
            let path: String = steps.into_iter().rev().collect();
            path.trim_start_matches('.').to_owned()
        }
        Ok(()) | Err(Found::Nothing) => String::new(),
    }
}

fn find(cursor: &mut Cursor, at: usize) -> Result<(), Found> {
    match cursor.kind()? {
        Kind::Object => cursor.object(|cursor, key| {
            let step = || format!(".{}", shortened(&key.decoded()));
            if key.quoted().start == at {
                return Err(Found::Key(vec![step()]));
            }
            find(cursor, at).map_err(|found| found.within(step))
        }),
        Kind::Array => cursor.array(|cursor, index| {
            find(cursor, at).map_err(|found| found.within(|| format!("[{index}]")))
        }),
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => Ok(cursor.skip()?),
    }
}

// === impl Found ===

impl Found {
    fn within(self, step: impl Fn() -> String) -> Self {
        match self {
            Self::Key(mut steps) => {
                steps.push(step());
                Self::Key(steps)
            }
            Self::Nothing => Self::Nothing,
        }
    }
}

impl From<Broken> for Found {
    fn from(_: Broken) -> Self {
        Self::Nothing
    }
}
