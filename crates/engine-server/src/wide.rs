//! Text as servers escape it: a character beyond the first 65,536 is two halves, which may come in two
//! pieces.

use std::fmt;
use std::mem;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use serde_json::value::RawValue;

/// The text of a JSON string, or the texts of an array of parts joined, as bytes in WTF-8: UTF-8 in which a
/// lone UTF-16 surrogate is three bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wide(Vec<u8>);

/// Joins the pieces of a text. A half that stays alone becomes U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    // The first half of a character, whose other half may come.
    half: Option<[u8; HALF]>,
}

/// Bytes of a half in WTF-8.
const HALF: usize = 3;

// === impl Wide ===

impl Wide {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, where no more pieces of it come.
    pub(crate) fn whole(self) -> String {
        let mut joined = Joined::default();
        let mut text = joined.push(self);
        text.extend(joined.finish());
        text
    }
}

impl From<String> for Wide {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        read(raw, 0).map_err(D::Error::custom)
    }
}

/// Parts have no parts of parts beyond this.
const DEEPEST: usize = 4;

fn read(raw: &RawValue, depth: usize) -> Result<Wide, serde_json::Error> {
    if depth > DEEPEST {
        return Err(serde_json::Error::custom("text should not be so deep"));
    }
    match raw.get().as_bytes().first() {
        Some(b'n') => Ok(Wide::default()),
        Some(b'[') => {
            let parts: Vec<&RawValue> = serde_json::from_str(raw.get())?;
            let mut whole = Wide::default();
            for part in parts {
                whole.0.append(&mut read(part, depth + 1)?.0);
            }
            Ok(whole)
        }
        Some(b'{') => {
            let Part { text } = serde_json::from_str(raw.get())?;
            text.map_or_else(|| Ok(Wide::default()), |text| read(text, depth + 1))
        }
        _ => {
            // As bytes, since halves of characters are no error then.
            let mut string = serde_json::Deserializer::from_str(raw.get());
            string.deserialize_byte_buf(BytesVisitor).map(Wide)
        }
    }
}

/// A part of a content.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or parts of text")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Vec<u8>, E> {
        Ok(text.to_owned())
    }
}

// === impl Joined ===

impl Joined {
    /// The text of a piece, without a first half at its end, with the one at the end of the piece before.
    pub(crate) fn push(&mut self, piece: Wide) -> String {
        if piece.is_empty() {
            return String::new();
        }
        let mut bytes = piece.0;
        if let Some(half) = self.half.take() {
            bytes.splice(..0, half);
        }
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => return text,
            Err(error) => error.into_bytes(),
        };
        let mut text = String::new();
        let mut rest = bytes.as_slice();
        while let Some(at) = rest.windows(HALF).position(is_half) {
            text.push_str(&String::from_utf8_lossy(&rest[..at]));
            let half = &rest[at..at + HALF];
            rest = &rest[at + HALF..];
            let (first, second) = (unit(half), rest.get(..HALF).filter(|next| is_half(next)));
            if is_first(first) && rest.is_empty() {
                self.half = half.try_into().ok();
                return text;
            }
            let pair = second
                .filter(|_| is_first(first))
                .map(|second| [first, unit(second)]);
            match pair.and_then(|pair| char::decode_utf16(pair).next()?.ok()) {
                Some(character) => {
                    text.push(character);
                    rest = &rest[HALF..];
                }
                None => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        text.push_str(&String::from_utf8_lossy(rest));
        text
    }

    /// What stands for a half whose other half did not come.
    pub(crate) fn finish(&mut self) -> Option<char> {
        let half = mem::take(&mut self.half);
        half.map(|_| char::REPLACEMENT_CHARACTER)
    }
}

/// In UTF-8, no other byte than these three begins a half.
fn is_half(bytes: &[u8]) -> bool {
    matches!(bytes, [0xED, 0xA0..=0xBF, 0x80..=0xBF])
}

/// The UTF-16 code unit of a half.
fn unit(half: &[u8]) -> u16 {
    half.iter()
        .fold(0xD, |unit, byte| unit << 6 | u16::from(byte & 0x3F))
        | 0xD000
}

fn is_first(unit: u16) -> bool {
    (0xD800..0xDC00).contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&str]) -> String {
        let mut joined = Joined::default();
        let mut text = String::new();
        for piece in pieces {
            text.push_str(&joined.push(serde_json::from_str(piece).unwrap()));
        }
        text.extend(joined.finish());
        text
    }

    #[test]
    fn halves_in_two_pieces_are_one_character() {
        assert_eq!(joined(&[r#""a\ud83d""#, r#""\ude00b""#]), "a😀b");
        assert_eq!(joined(&[r#""\ud83d\ude00""#]), "😀");
        assert_eq!(
            joined(&[r#""\ud83d""#, r#""""#, r#""\ude00\ud83d""#, r#""\ude01""#]),
            "😀😁"
        );
        assert_eq!(joined(&[r#""\u00fcé😀""#]), "üé😀");
    }

    #[test]
    fn a_half_alone_is_a_replacement_character() {
        assert_eq!(joined(&[r#""a\ud83d""#]), "a\u{fffd}");
        assert_eq!(
            joined(&[r#""\ud83db""#, r#""\ude00""#]),
            "\u{fffd}b\u{fffd}"
        );
        assert_eq!(joined(&[r#""\ud83d\ud83d\ude00""#]), "\u{fffd}😀");
        assert_eq!(
            joined(&[r#""\ud83d""#, r#""\ud83d""#, r#""\ude00""#]),
            "\u{fffd}😀"
        );
        assert_eq!(joined(&[r#""\ude00\ud83d""#]), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn parts_of_text_are_text() {
        let parts = r#"[{"type":"text","text":"a\ud83d"},{"type":"x"},"\ude00",null]"#;
        assert_eq!(joined(&[parts, "null"]), "a😀");
        assert!(serde_json::from_str::<Wide>("5").is_err());
        let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
        assert!(serde_json::from_str::<Wide>(&deep).is_err());
    }
}
