//! The hexadecimal text of a key's hash, as manifests and state files have it.

use inferyard_router::catalog::KeyHash;

/// The hash that 64 lower-case hexadecimal digits stand for.
#[must_use]
pub fn parse_key_hash(text: &str) -> Option<KeyHash> {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 64 || !text.bytes().all(lower_hex) {
        return None;
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(KeyHash(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_lower_case_digits_are_a_hash() {
        let text = "00ff".repeat(16);
        assert!(parse_key_hash(&text).is_some_and(|hash| hash.0 == [0, 255].repeat(16)[..]));
        for wrong in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"00FF".repeat(16),
            &"é".repeat(32),
        ] {
            assert!(parse_key_hash(wrong).is_none(), "{wrong}");
        }
    }
}
