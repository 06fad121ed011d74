//! The text of a key: made once, shown once, never kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::KeyHash;

/// What every key of ours begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "iy-";
/// The same of keys that open accounts, usage and other keys.
const ADMIN_PREFIX: &str = "iy-admin-";
/// Characters of 256 bits in base64url.
const DIGITS: usize = 43;

/// The text of a new key: a prefix and 256 random bits in base64url, which are 43 characters.
pub struct KeyText(String);

// === impl KeyText ===

impl KeyText {
    /// Makes a new key for callers of models: `iy-…`.
    #[must_use]
    pub fn random() -> Self {
        Self::with(PREFIX)
    }

    /// Makes a new key for admins: `iy-admin-…`.
    #[must_use]
    pub fn admin() -> Self {
        Self::with(ADMIN_PREFIX)
    }

    fn with(prefix: &str) -> Self {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).expect("the system should have random numbers");
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits)))
    }

    /// Whether this is formed like the text of a key, and so is a secret.
    #[must_use]
    pub fn is_formed_like(text: &str) -> bool {
        let digits = text.strip_prefix(PREFIX);
        digits.is_some_and(|digits| digits.len() == DIGITS)
    }

    /// The secret itself, for the one time that it is shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }

    /// First and last characters, enough to recognize it: `iy-a…wxyz`.
    #[must_use]
    pub fn redacted(&self) -> String {
        let (start, end) = (self.0.len() - DIGITS + 1, self.0.len() - 4);
        format!("{}…{}", &self.0[..start], &self.0[end..])
    }
}

/// The redacted form, so that no log shows the text.
impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({})", self.redacted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_random_and_what_is_shown_of_it_tells_little() {
        let key = KeyText::random();
        let text = key.reveal();
        assert_eq!(text.len(), 46);
        let digits = text.strip_prefix("iy-").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(digits).unwrap().len(), 32);
        assert_ne!(text, KeyText::random().reveal());
        assert_eq!(key.hash(), KeyHash::of(text.as_bytes()));
        let redacted = key.redacted();
        assert_eq!(redacted.chars().count(), 9);
        assert_eq!(redacted, format!("{}…{}", &text[..4], &text[42..]));
        assert!(KeyText::admin().redacted().starts_with("iy-admin-"));
        assert_eq!(format!("{key:?}"), format!("KeyText({redacted})"));
    }
}
