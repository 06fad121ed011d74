//! The API key and admin key that `up` makes at each start: printed once, kept as hashes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use inferyard_keys::{KeyHash, KeyText};
use tempfile::NamedTempFile;

/// How many keys stay valid, including the new one.
const KEPT: usize = 8;

const HEADER: &str = "\
# SHA-256 of the keys that `inferyard up` has made, newest last. Delete a line to revoke its key.
";

/// What a key gives access to.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyKind {
    /// Requests to models.
    Api,
    /// The usage and the keys of all accounts.
    Admin,
}

/// A new key and the hashes of all that are valid.
pub(super) struct Issued {
    /// The text of the new key. It is printed and then forgotten.
    pub(super) text: String,
    /// Valid hashes, in hexadecimal, the newest last.
    pub(super) hashes: Vec<String>,
}

/// Makes a key and remembers its hash in the state folder.
pub(super) fn issue(state: &Path, kind: KeyKind) -> anyhow::Result<Issued> {
    // Two starts at the same time must not lose each other's key.
    let lock = File::create(state.join("keys.lock")).context("cannot lock the state folder")?;
    lock.lock().context("cannot lock the state folder")?;

    let text = kind.new_key();
    let path = state.join(kind.file());
    let mut hashes = hashes(&fs::read_to_string(&path).unwrap_or_default());
    hashes.push(KeyHash::of(text.as_bytes()).to_string());
    hashes.drain(..hashes.len().saturating_sub(KEPT));
    let mut file = NamedTempFile::new_in(state).context("cannot write to the state folder")?;
    writeln!(file, "{HEADER}{}", hashes.join("\n"))
        .and_then(|()| Ok(file.persist(&path)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Issued { text, hashes })
}

/// The hashes in a state file; other lines are skipped.
fn hashes(file: &str) -> Vec<String> {
    let lines = file.lines().map(str::trim);
    let hashes = lines.filter(|line| KeyHash::parse(line).is_some());
    hashes.map(str::to_owned).collect()
}

// === impl KeyKind ===

impl KeyKind {
    fn file(self) -> &'static str {
        match self {
            Self::Api => "keys",
            Self::Admin => "admin-keys",
        }
    }

    /// A new random key; nothing accepts it yet.
    fn new_key(self) -> String {
        let text = KeyText::random();
        match self {
            Self::Api => text.reveal().to_owned(),
            // The prefix shows that the key is not meant for applications.
            Self::Admin => text.reveal().replacen("iy-", "iy-admin-", 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_last_eight_keys_stay_valid_and_only_hashes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let issued: Vec<_> = (0..10)
            .map(|_| issue(state, KeyKind::Api).unwrap())
            .collect();
        let hash_of = |issued: &Issued| KeyHash::of(issued.text.as_bytes()).to_string();
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
        let mode = fs::metadata(state.join("keys"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let admin = issue(state, KeyKind::Admin).unwrap();
        assert!(admin.text.starts_with("iy-admin-"));
        assert_eq!(admin.hashes.len(), 1, "an API key is no admin key");
    }

    #[test]
    fn a_damaged_state_file_costs_old_keys_only() {
        let folder = tempfile::tempdir().unwrap();
        let good = "ab".repeat(32);
        fs::write(folder.path().join("keys"), format!("nonsense\n {good}\n\n")).unwrap();
        let issued = issue(folder.path(), KeyKind::Api).unwrap();
        assert_eq!(issued.hashes.len(), 2);
        assert_eq!(issued.hashes[0], good);
    }
}
