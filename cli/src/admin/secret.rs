//! The admin key: from a file or from the environment, never from the command line.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use reqwest::header::HeaderValue;

use crate::failure::Failure;

const VARIABLE: &str = "INFERYARD_ADMIN_KEY";
/// The longest file that can hold a key.
const LONGEST_FILE: u64 = 4096;

/// The header that an admin key is sent in; nothing that shows headers shows it.
pub(super) fn admin_key(file: Option<&Path>) -> Result<HeaderValue, Failure> {
    let (place, text) = match file {
        Some(path) => {
            let place = format!("--admin-key-file {}", path.display());
            let text = read(path).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
            (place, text)
        }
        None => (VARIABLE.to_owned(), variable()?),
    };
    bearer(&text).ok_or_else(|| {
        Failure::usage(format!(
            "{place}: expected an admin key and nothing else, in one line of visible characters"
        ))
    })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    // One more byte tells a long file from a whole one; `bearer` then finds it too long.
    file.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a flag of clap's would let the key be written on the command line, which everybody reads"
)]
fn variable() -> Result<String, Failure> {
    std::env::var(VARIABLE).map_err(|_| {
        Failure::usage(format!(
            "--url needs an admin key: give --admin-key-file FILE, or set {VARIABLE}"
        ))
    })
}

fn bearer(text: &str) -> Option<HeaderValue> {
    let key = text.trim();
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_key || text.len() as u64 > LONGEST_FILE {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line_of_visible_characters() {
        let header = bearer("iy-admin-abc\n").unwrap();
        assert_eq!(header, "Bearer iy-admin-abc");
        assert!(!format!("{header:?}").contains("abc"));
        let long = "x".repeat(5_000);
        for wrong in ["", " \n", "a b", "a\nb", "schlüssel", &long] {
            assert!(bearer(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = admin_key(Some(Path::new("/nowhere/key"))).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("--admin-key-file /nowhere/key: "), "{error}");
    }
}
