//! Admin keys: they protect what a router reports about itself.

use inferyard_keys::KeyHash;
use subtle::{Choice, ConstantTimeEq as _};

/// Whether `text` is one of the admin keys, in constant time.
pub(crate) fn is_admin_key(known: &[KeyHash], text: &[u8]) -> bool {
    let hash = KeyHash::of(text);
    let equals = |found: Choice, key: &KeyHash| found | key.0[..].ct_eq(&hash.0[..]);
    known.iter().fold(Choice::from(0), equals).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_admin_key_is_one_and_nothing_else_is() {
        let known = [b"one", b"two"].map(|text| KeyHash::of(text));
        assert!(is_admin_key(&known, b"one") && is_admin_key(&known, b"two"));
        assert!(!is_admin_key(&known, b"three") && !is_admin_key(&[], b""));
    }
}
