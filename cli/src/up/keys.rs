//! Keys that `up` makes: printed once, kept as hashes.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// How many keys stay valid, the new one included.
const KEPT: usize = 8;

const HEADER: &str = "\
# SHA-256 of the API keys that `inferyard up` has made, newest last. Delete a line to revoke its key.
";

const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A new key and the hashes of all that are valid.
pub(super) struct Issued {
    /// The text of the new key. It is printed and then forgotten.
    pub(super) text: String,
    /// Valid hashes, in hexadecimal, the newest last.
    pub(super) hashes: Vec<String>,
}

/// Makes a key and remembers its hash in the state folder.
pub(super) fn issue(state: &Path) -> anyhow::Result<Issued> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(|| format!("cannot make the state folder {}", state.display()))?;
    // Two starts at the same time must not lose each other's key.
    let lock = File::create(state.join("keys.lock")).context("cannot lock the state folder")?;
    lock.lock().context("cannot lock the state folder")?;

    let text = new_key()?;
    let path = state.join("keys");
    let mut hashes = hashes(&fs::read_to_string(&path).unwrap_or_default());
    hashes.push(hex(&Sha256::digest(&text)));
    hashes.drain(..hashes.len().saturating_sub(KEPT));
    let mut file = NamedTempFile::new_in(state).context("cannot write to the state folder")?;
    writeln!(file, "{HEADER}{}", hashes.join("\n"))
        .and_then(|()| Ok(file.persist(&path)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Issued { text, hashes })
}

/// The hashes in a state file; what is none is left out.
fn hashes(file: &str) -> Vec<String> {
    let lines = file.lines().map(str::trim);
    let hashes = lines.filter(|line| inferyard_discovery::parse_key_hash(line).is_some());
    hashes.map(str::to_owned).collect()
}

/// `iy-` and 256 random bits in base64url, which are 43 characters.
fn new_key() -> anyhow::Result<String> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).context("the system has no random numbers")?;
    Ok(format!("iy-{}", base64url(&bits)))
}

/// Base64 for URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for index in 0..=chunk.len() {
            let digit = (group >> (18 - 6 * index)) & 63;
            text.push(char::from(BASE64URL[digit as usize]));
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string should not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The vectors of RFC 4648, section 10, without padding.
    #[test]
    fn base64url_is_that_of_the_rfc() {
        let table = [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, encoded) in table {
            assert_eq!(base64url(text.as_bytes()), encoded);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn the_last_eight_keys_stay_valid_and_only_hashes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep/state");
        let issued: Vec<_> = (0..10).map(|_| issue(&state).unwrap()).collect();
        let hash_of = |issued: &Issued| hex(&Sha256::digest(&issued.text));
        let expected: Vec<_> = issued[2..].iter().map(hash_of).collect();
        assert_eq!(issued[9].hashes, expected);
        assert_eq!(
            issued
                .iter()
                .map(|issued| &issued.text)
                .collect::<HashSet<_>>()
                .len(),
            10
        );
        let file = fs::read_to_string(state.join("keys")).unwrap();
        for issued in &issued {
            assert_eq!(issued.text.len(), 46, "iy- and 43 characters");
            assert!(!file.contains(&issued.text[3..]));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join("keys"))), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_state_file_costs_old_keys_only() {
        let folder = tempfile::tempdir().unwrap();
        let good = "ab".repeat(32);
        fs::write(folder.path().join("keys"), format!("nonsense\n {good}\n\n")).unwrap();
        let issued = issue(folder.path()).unwrap();
        assert_eq!(issued.hashes.len(), 2);
        assert_eq!(issued.hashes[0], good);
    }
}
