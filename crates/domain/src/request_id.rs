//! The id of a request.

use std::fmt;

/// 128 random bits; as text `req_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bits: [u8; 16],
    text: [u8; 36],
}

// === impl RequestId ===

impl RequestId {
    /// A new id.
    #[must_use]
    pub fn random() -> Self {
        // A generator of this thread, which the system seeds: asking the system each time takes as long as
        // reading a request.
        Self::of(rand::random())
    }

    /// The id with these bits.
    #[must_use]
    pub fn of(bits: [u8; 16]) -> Self {
        let mut text = *b"req_00000000000000000000000000000000";
        for (place, byte) in text[4..].chunks_exact_mut(2).zip(bits) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            place[0] = DIGITS[usize::from(byte >> 4)];
            place[1] = DIGITS[usize::from(byte & 15)];
        }
        Self { bits, text }
    }

    /// The 128 bits.
    #[must_use]
    pub fn bits(&self) -> [u8; 16] {
        self.bits
    }

    /// `req_` and 32 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.text).expect("an id should be ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
