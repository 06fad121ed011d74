//! Mistakes in manifests, each with its position. All mistakes are reported together.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake: its position and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file; `-` is standard input.
    pub file: PathBuf,
    /// The line, from 1; 0 where it is not known.
    pub line: u64,
    /// Kind and name of the resource, and the path of the field, as far as they are known.
    pub place: String,
    /// What was expected and what was found.
    pub message: String,
}

/// All mistakes that were found; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

/// A callback that receives the mistakes in one resource: the path of the field, and what was expected there.
pub type Report<'a> = &'a mut dyn FnMut(&str, String);

// === impl Mistake ===

impl Mistake {
    pub(crate) fn new(file: &Path, line: u64, place: String, message: String) -> Self {
        Self {
            file: file.to_owned(),
            line,
            place,
            message,
        }
    }
}

/// The format of compilers: `file:line: place: message`.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.as_os_str() == "-" {
            f.write_str("standard input")?;
        } else {
            write!(f, "{}", self.file.display())?;
        }
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        write!(f, ": {}", self.message)
    }
}

// === impl Mistakes ===

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}
