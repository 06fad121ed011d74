//! What a file must be: SHA-256 of its bytes, or its id in git, which hubs tell of small files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

/// SHA-256 of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

/// Why a text is no checksum.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no SHA-256: expected 64 hexadecimal digits")]
pub struct ChecksumError(String);

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Checksum {
    Sha256(Sha256),
    /// The id of a git blob: SHA-1 over its length and its bytes.
    GitBlob([u8; 20]),
}

/// A checksum that is being computed.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    GitBlob(sha1::Sha1),
}

/// SHA-256 of a text, in hexadecimal digits.
pub(crate) fn of(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

// === impl Checksum ===

impl Checksum {
    /// The id of a git blob, from 40 hexadecimal digits.
    pub(crate) fn git_blob(text: &str) -> Result<Self, ChecksumError> {
        decoded(text).map(Self::GitBlob)
    }

    /// Whether a file is what it must be; it reads all of it.
    pub(crate) fn fits(self, path: &Path, size: u64) -> io::Result<bool> {
        let mut hasher = Hasher::new(Some(&self), size);
        hasher.read(&mut File::open(path)?, size)?;
        Ok(hasher.finish() == self)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(sha256) => write!(f, "sha256:{sha256}"),
            Self::GitBlob(id) => write!(f, "git:{}", hex::encode(id)),
        }
    }
}

impl TryFrom<String> for Checksum {
    type Error = ChecksumError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("sha256", digits)) => digits.parse().map(Self::Sha256),
            Some(("git", digits)) => Self::git_blob(digits),
            _ => Err(ChecksumError(text)),
        }
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

// === impl Sha256 ===

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Sha256 {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decoded(text).map(Self)
    }
}

// === impl Hasher ===

impl Hasher {
    /// Of the kind that is expected; SHA-256 where nothing is.
    pub(crate) fn new(expected: Option<&Checksum>, size: u64) -> Self {
        match expected {
            Some(Checksum::GitBlob(_)) => {
                let mut hasher = sha1::Sha1::default();
                sha1::Digest::update(&mut hasher, format!("blob {size}\0"));
                Self::GitBlob(hasher)
            }
            Some(Checksum::Sha256(_)) | None => Self::Sha256(sha2::Sha256::default()),
        }
    }

    /// Takes more bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher) => sha1::Digest::update(hasher, bytes),
        }
    }

    /// Takes the next bytes of a file, as many as told.
    pub(crate) fn read(&mut self, file: &mut File, mut left: u64) -> io::Result<()> {
        let mut block = vec![0; BLOCK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let read = file.read(&mut block[..most])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.update(&block[..read]);
            left -= read as u64;
        }
        Ok(())
    }

    /// What it is.
    pub(crate) fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hasher) => Checksum::Sha256(Sha256(hasher.finalize().into())),
            Self::GitBlob(hasher) => Checksum::GitBlob(sha1::Digest::finalize(hasher).into()),
        }
    }
}

/// Reads digits of either case.
fn decoded<const N: usize>(text: &str) -> Result<[u8; N], ChecksumError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| ChecksumError(text.chars().take(100).collect()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha256sum_and_git() {
        let mut hasher = Hasher::new(None, 0);
        hasher.update(b"hello\n");
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(hasher.finish().to_string(), format!("sha256:{sha256}"));
        assert_eq!(of(b"hello\n"), sha256);
        // printf 'hello\n' | git hash-object --stdin
        let blob = Checksum::git_blob("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let mut hasher = Hasher::new(Some(&blob), 6);
        hasher.update(b"hel");
        hasher.update(b"lo\n");
        assert_eq!(hasher.finish(), blob);
    }

    #[test]
    fn a_text_is_a_checksum_or_is_refused() {
        let digits = "AB".repeat(32);
        assert_eq!(
            digits.parse::<Sha256>().unwrap().to_string(),
            digits.to_lowercase()
        );
        for wrong in ["", "ab", &"g".repeat(64), &"ä".repeat(32), &"a".repeat(65)] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
        let written = serde_json::to_string(&Checksum::GitBlob([7; 20])).unwrap();
        let read: Checksum = serde_json::from_str(&written).unwrap();
        assert_eq!(read, Checksum::GitBlob([7; 20]));
        assert!(serde_json::from_str::<Checksum>("\"md5:00\"").is_err());
    }
}
