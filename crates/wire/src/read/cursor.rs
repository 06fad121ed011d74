//! Walks a JSON text once and checks its grammar, without building values.

use std::ops::Range;

use memchr::memchr2;

mod keys;
mod path;
mod raw;

pub(super) use raw::Raw;

use keys::Keys;

/// Maximum nesting. Real requests need about ten levels, schemas a few more. The limit bounds the stack of this
/// walk and of every later parser.
pub(super) const DEEPEST: u8 = 64;

const TWICE: &str = "expected each key of an object once";

/// A position in a JSON text.
///
/// Accepts what `serde_json` accepts as a `Value`, except nesting beyond [`DEEPEST`] and duplicate keys in an
/// object. So every later parser accepts the text and reads the same values.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    depth: u8,
    /// Bitwise or of all bytes in strings: the highest bit shows whether one of them is not ASCII.
    bits: u8,
}

/// The type of a value, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Offset of the byte at fault.
    pub(crate) at: usize,
    /// What was expected there.
    pub(crate) what: &'static str,
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    /// A cursor before the first byte.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
            bits: 0,
        }
    }

    /// The offset of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The type of the next value.
    pub(super) fn kind(&mut self) -> Result<Kind, Broken> {
        match self.next() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'n') => Ok(Kind::Null),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) | None => Err(self.broken("expected a value")),
        }
    }

    /// Skips one value of any type.
    pub(super) fn skip(&mut self) -> Result<(), Broken> {
        match self.kind()? {
            Kind::String => self.string().map(|_| ()),
            Kind::Number => self.number(),
            Kind::Null => self.word(b"null"),
            Kind::Bool if self.text[self.at] == b't' => self.word(b"true"),
            Kind::Bool => self.word(b"false"),
            Kind::Array => self.array(|cursor, _| cursor.skip()),
            Kind::Object => self.object(|cursor, _| cursor.skip()),
        }
    }

    /// Skips one value and returns its range.
    pub(super) fn range(&mut self) -> Result<Range<usize>, Broken> {
        self.kind()?;
        let start = self.at;
        self.skip()?;
        Ok(start..self.at)
    }

    /// Skips one value and returns its text.
    pub(super) fn passed(&mut self) -> Result<&'a [u8], Broken> {
        let range = self.range()?;
        Ok(&self.text[range])
    }

    /// Walks an object; `member` gets each key and must consume its value.
    pub(super) fn object<E: From<Broken>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Raw<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{', "expected `{`")?;
        if self.next() == Some(b'}') {
            self.close();
            return Ok(());
        }
        let mut keys = Keys::default();
        loop {
            if self.next() != Some(b'"') {
                return Err(self.broken("expected a key in double quotes").into());
            }
            let key = self.string()?;
            if self.next() != Some(b':') {
                return Err(self.broken("expected `:`").into());
            }
            self.at += 1;
            member(self, key)?;
            // Parsers differ in which of two values they use, so a duplicate key would bypass these checks.
            if !keys.are_new_with(key) {
                let at = key.quoted().start;
                return Err(Broken { at, what: TWICE }.into());
            }
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.broken("expected `,` or `}`").into()),
            }
        }
        self.close();
        Ok(())
    }

    /// Walks an array; `element` gets each index and must consume the element.
    pub(super) fn array<E: From<Broken>>(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'[', "expected `[`")?;
        if self.next() == Some(b']') {
            self.close();
            return Ok(());
        }
        for index in 0.. {
            element(self, index)?;
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.broken("expected `,` or `]`").into()),
            }
        }
        self.close();
        Ok(())
    }

    /// Consumes a string.
    pub(super) fn string(&mut self) -> Result<Raw<'a>, Broken> {
        if self.next() != Some(b'"') {
            return Err(self.broken("expected a string"));
        }
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = memchr2(b'"', b'\\', rest) else {
                self.at = self.text.len();
                return Err(self.broken("expected the end of a string"));
            };
            self.plain(&rest[..length])?;
            self.at += length;
            if rest[length] == b'"' {
                break;
            }
            escaped = true;
            self.escape()?;
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(Raw {
            text,
            start,
            escaped,
        })
    }

    /// Checks that the text contains nothing after the value and is valid UTF-8.
    pub(super) fn finish(mut self) -> Result<(), Broken> {
        if self.next().is_some() {
            return Err(self.broken("expected nothing after the object"));
        }
        // Outside strings the grammar allows only ASCII.
        if !self.bits.is_ascii()
            && let Err(error) = std::str::from_utf8(self.text)
        {
            return Err(Broken {
                at: error.valid_up_to(),
                what: "expected UTF-8",
            });
        }
        Ok(())
    }

    /// Skips white space and peeks at the next byte.
    fn next(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn open(&mut self, bracket: u8, what: &'static str) -> Result<(), Broken> {
        if self.next() != Some(bracket) {
            return Err(self.broken(what));
        }
        if self.depth == DEEPEST {
            return Err(self.broken("expected at most 64 levels of nesting"));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// Checks a part of a string without quotes and escapes. The loop has no early exit, so that it is
    /// vectorised.
    fn plain(&mut self, stretch: &[u8]) -> Result<(), Broken> {
        let (bits, control) = stretch.iter().fold((0, 0), |(bits, control), byte| {
            (bits | byte, control | u8::from(*byte < b' '))
        });
        self.bits |= bits;
        if control > 0 {
            self.at += stretch.iter().take_while(|byte| **byte >= b' ').count();
            return Err(self.broken("expected control characters in strings to be escaped"));
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Broken> {
        self.at += 1;
        match self.text.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                self.unicode()
            }
            _ => Err(self.broken("expected one of \"\\/bfnrtu after a backslash")),
        }
    }

    /// Reads the digits of `\u….`; a surrogate must be part of a pair.
    fn unicode(&mut self) -> Result<(), Broken> {
        const LONE: &str = "expected both halves of a surrogate pair";
        match self.hex()? {
            0xDC00..=0xDFFF => Err(self.broken(LONE)),
            0xD800..=0xDBFF => {
                if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(self.broken(LONE));
                }
                self.at += 2;
                match self.hex()? {
                    0xDC00..=0xDFFF => Ok(()),
                    _ => Err(self.broken(LONE)),
                }
            }
            _ => Ok(()),
        }
    }

    fn hex(&mut self) -> Result<u32, Broken> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.text.get(self.at).map(|byte| char::from(*byte));
            let Some(digit) = digit.and_then(|digit| digit.to_digit(16)) else {
                return Err(self.broken("expected four hexadecimal digits"));
            };
            code = code << 4 | digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<(), Broken> {
        let start = self.at;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.broken("expected a digit")),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        let exponent = matches!(self.text.get(self.at), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // Only these can exceed the range of a double.
        if (exponent || self.at - start > 300) && !self.is_finite(start) {
            self.at = start;
            return Err(self.broken("expected a number within the range of a double"));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let rest = &self.text[self.at..];
        match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => Err(self.broken("expected a digit")),
            length => {
                self.at += length;
                Ok(())
            }
        }
    }

    fn is_finite(&self, start: usize) -> bool {
        std::str::from_utf8(&self.text[start..self.at])
            .is_ok_and(|number| number.parse().is_ok_and(f64::is_finite))
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Broken> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.broken("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn broken(&self, what: &'static str) -> Broken {
        Broken { at: self.at, what }
    }
}

// === impl Broken ===

impl Broken {
    /// The path of the key at fault if the error is a duplicate key.
    pub(super) fn key_twice(self, text: &[u8]) -> Option<String> {
        (self.what == TWICE).then(|| path::to(text, self.at))
    }
}

// === impl Kind ===

impl Kind {
    /// The type in error messages: "but got … instead".
    pub(super) fn described(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

#[cfg(test)]
mod tests;
