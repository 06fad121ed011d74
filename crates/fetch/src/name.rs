//! File names from a server, checked: none leads out of the target folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Our subfolder of the target folder.
pub(crate) const OURS: &str = ".inferyard-fetch";
/// Longest file name, in bytes: that of file systems, less the suffix of an incomplete file.
const MAX_SEGMENT: usize = 255 - ".journal".len();
/// Longest path in bytes.
const MAX_NAME: usize = 1024;

/// A relative path without `.`, `..` or empty segments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Name(String);

/// A name that is refused.
#[derive(Debug, thiserror::Error)]
#[error("the server names a file {0:?}: refused, since it is no plain path inside the folder")]
pub struct NameError(String);

// === impl Name ===

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Its path in a folder.
    pub(crate) fn within(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |segment: &str| {
            (1..=MAX_SEGMENT).contains(&segment.len())
                && segment != "."
                && segment != ".."
                && !segment.contains(|c: char| c.is_control() || c == '\\')
        };
        let ours = text.split('/').next() == Some(OURS);
        if text.len() <= MAX_NAME && !ours && text.split('/').all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(200).collect()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_inside_the_folder() {
        for right in ["a.gguf", "sub/dir/a.gguf", ".gitattributes", "a..b", "ä b"] {
            assert!(right.parse::<Name>().is_ok(), "{right}");
        }
        let long = "a".repeat(300);
        let wrong = [
            "",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "a\\..\\b",
            "a\0b",
            "a\nb",
            ".inferyard-fetch/record.json",
            ".inferyard-fetch",
            &long,
        ];
        for wrong in wrong {
            assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
        }
    }
}
