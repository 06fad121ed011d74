//! Follows the JSON of an answer and knows the keys of every object that is open.
//!
//! A grammar has no memory: where names are free, it would let the same one come twice.

use std::collections::HashSet;
use std::sync::Arc;

/// What opens JSON where an answer is not JSON from its beginning.
const OPENERS: [&str; 3] = ["<tool_call>", "[TOOL_CALLS]", "[ARGS]"];

/// Where in an answer the text is.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    at: At,
    open: Vec<Frame>,
    // The last bytes outside of JSON, to find what opens it.
    tail: Vec<u8>,
    thought: Thought,
    start: Start,
}

/// How JSON begins in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At once, or behind a mark.
    AtOnce,
    /// At once, and again behind a semicolon.
    InARow,
    /// Behind a mark only.
    Marked,
    /// It cannot be told from text, and is not followed.
    Never,
}

/// Reasoning that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thought {
    /// There is none, or no more.
    Over,
    /// It may come between these marks.
    Possible(&'static str, &'static str),
    /// It goes on up to this mark.
    Open(&'static str),
}

/// What the next byte belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// Text.
    Outside,
    /// JSON begins here, or text does.
    Edge,
    /// JSON, between texts.
    Between,
    /// A text that is a key, with its bytes so far.
    Key(Vec<u8>, Escape),
    /// A text that is a value.
    Value(Escape),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Yes,
}

/// An object or an array that is open.
#[derive(Clone, Debug)]
enum Frame {
    Array,
    Object {
        // Shared, because what a token would do is tried on a copy.
        keys: Arc<HashSet<String>>,
        // A text here is a key.
        key_next: bool,
    },
}

// === impl Start ===

impl Start {
    fn at(self) -> At {
        match self {
            Self::AtOnce | Self::InARow => At::Edge,
            Self::Marked | Self::Never => At::Outside,
        }
    }
}

// === impl Keys ===

impl Keys {
    /// At the beginning of an answer.
    pub(super) fn new(start: Start, thought: Thought) -> Self {
        let at = match (thought, start) {
            (Thought::Open(_), _) => At::Outside,
            (_, start) => start.at(),
        };
        Self {
            at,
            open: Vec::new(),
            tail: Vec::new(),
            thought,
            start,
        }
    }

    /// Follows what was written. False: a key came twice.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let mut once = true;
        for byte in bytes {
            once &= self.step(*byte);
        }
        once
    }

    /// Whether these bytes would write a key twice.
    pub(super) fn would_repeat(&self, bytes: &[u8]) -> bool {
        // Only a token that closes a key comes this far: a copy is rare.
        !self.clone().push(bytes)
    }

    /// How many quotes a token needs to close a key. None: no key can come twice here.
    pub(super) fn quotes_to_close(&self) -> Option<usize> {
        let any = self.open.iter().any(|frame| match frame {
            Frame::Object { keys, .. } => !keys.is_empty(),
            Frame::Array => false,
        });
        match &self.at {
            At::Key(..) => any.then_some(1),
            At::Between => any.then_some(2),
            At::Value(_) => any.then_some(3),
            At::Outside | At::Edge => None,
        }
    }

    /// Behind these bytes a key may be open.
    pub(super) fn may_enter_key(&self, bytes: &[u8]) -> bool {
        self.in_key() || (!matches!(self.at, At::Outside) && bytes.contains(&b'"'))
    }

    pub(super) fn in_key(&self) -> bool {
        matches!(self.at, At::Key(..))
    }

    fn step(&mut self, byte: u8) -> bool {
        match &mut self.at {
            At::Outside => self.outside(byte),
            At::Edge => self.edge(byte),
            At::Between => self.between(byte),
            At::Value(escape) => match (*escape, byte) {
                (Escape::Yes, _) => *escape = Escape::No,
                (Escape::No, b'\\') => *escape = Escape::Yes,
                (Escape::No, b'"') => self.at = At::Between,
                (Escape::No, _) => {}
            },
            At::Key(text, escape) => {
                let closes = *escape == Escape::No && byte == b'"';
                *escape = match (*escape, byte) {
                    (Escape::No, b'\\') => Escape::Yes,
                    _ => Escape::No,
                };
                text.push(byte);
                if closes {
                    return self.close_key();
                }
            }
        }
        true
    }

    fn close_key(&mut self) -> bool {
        let At::Key(text, _) = std::mem::replace(&mut self.at, At::Between) else {
            return true;
        };
        // However it is escaped, it is the same key.
        let key = serde_json::from_slice::<String>(&text);
        let key = key.unwrap_or_else(|_| String::from_utf8_lossy(&text).into_owned());
        match self.open.last_mut() {
            Some(Frame::Object { keys, key_next }) => {
                *key_next = false;
                !keys.contains(&key) && Arc::make_mut(keys).insert(key)
            }
            _ => true,
        }
    }

    fn outside(&mut self, byte: u8) {
        self.tail.push(byte);
        let ends_with = |mark: &str| self.tail.ends_with(mark.as_bytes());
        let at = match self.thought {
            Thought::Open(close) if ends_with(close) => {
                self.thought = Thought::Over;
                self.start.at()
            }
            Thought::Possible(open, close) if ends_with(open) => {
                self.thought = Thought::Open(close);
                At::Outside
            }
            Thought::Open(_) => At::Outside,
            _ if self.start != Start::Never && OPENERS.into_iter().any(ends_with) => At::Edge,
            _ => At::Outside,
        };
        if at != At::Outside {
            self.tail.clear();
            self.at = at;
        } else if self.tail.len() > 64 {
            self.tail.drain(..32);
        }
    }

    fn edge(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b';' if self.start == Start::InARow => {}
            // A mark in brackets is text: its second byte is a letter, and no list begins with that.
            b'{' | b'[' => {
                self.tail.clear();
                self.tail.push(byte);
                self.at = At::Between;
                self.between(byte);
            }
            _ => {
                self.at = At::Outside;
                self.outside(byte);
            }
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'T' | b'A' if self.tail == b"[" && self.open.len() == 1 => {
                self.open.clear();
                self.at = At::Outside;
                self.outside(byte);
                return;
            }
            b'{' => self.open.push(Frame::Object {
                keys: Arc::default(),
                key_next: true,
            }),
            b'[' => self.open.push(Frame::Array),
            b'}' | b']' => {
                self.open.pop();
                if self.open.is_empty() {
                    self.at = if self.start == Start::InARow {
                        At::Edge
                    } else {
                        At::Outside
                    };
                }
            }
            b',' => {
                if let Some(Frame::Object { key_next, .. }) = self.open.last_mut() {
                    *key_next = true;
                }
            }
            b'"' => {
                self.at = match self.open.last() {
                    Some(Frame::Object { key_next: true, .. }) => At::Key(vec![byte], Escape::No),
                    _ => At::Value(Escape::No),
                };
            }
            _ => {}
        }
        if self.open.len() > 1 || byte != b'[' {
            self.tail.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_once(keys: &Keys, text: &str) -> bool {
        let whole = keys.clone().push(text.as_bytes());
        let mut by_byte = keys.clone();
        let bytes = text.bytes().all(|byte| by_byte.push(&[byte]));
        assert_eq!(whole, bytes, "{text}");
        whole
    }

    #[test]
    fn a_key_that_comes_twice_is_seen() {
        let keys = Keys::new(Start::AtOnce, Thought::Over);
        for text in [
            r#"{"a": 1, "a""#,
            r#"{"a": {"b": [1, "a"], "c": 2}, "d": {}, "a""#,
            r#"{"a": 1, "\u0061""#,
            r#"{"\"": 1, "\u0022""#,
            r#"[{"a": {"x": 1, "y": 2, "x""#,
            r#"<tool_call>{"name": "f", "arguments": {"a": "}", "a""#,
            r#"Text {"a": 1, "a": 2} <tool_call>{"a": 1, "a""#,
            r#"<think>{"a": 1, "a": 2}</think><tool_call>{"a": 1, "a""#,
            r#"[TOOL_CALLS]f[ARGS]{"a": 1, "a""#,
            r#"[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "f", "name""#,
        ] {
            assert!(!is_once(&keys, text), "{text}");
        }
    }

    #[test]
    fn other_keys_and_other_texts_are_not() {
        let keys = Keys::new(Start::AtOnce, Thought::Over);
        for text in [
            r#"{"a": "a", "b": ["a", "a"], "c": {"a": {"a": 1}}, "A": "\"a\": 1, \"a\""}"#,
            r#"[{"a": 1}, {"a": 2}]"#,
            r#"Text {"a": 1, "a": 2}"#,
            r#"<tool_call>{"a": 1}</tool_call><tool_call>{"a": 1}</tool_call>"#,
            r#"[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f[ARGS]{"a": 1}"#,
        ] {
            assert!(is_once(&keys, text), "{text}");
        }
        let thinks = Keys::new(Start::AtOnce, Thought::Open("</think>"));
        assert!(is_once(
            &thinks,
            r#"{"a": 1, "a": 2} <tool_call>{"a": 1, "a""#
        ));
        assert!(!is_once(&thinks, "{ [ \"</think>\n\n{\"a\": 1, \"a\""));
        let may = Keys::new(Start::AtOnce, Thought::Possible("<think>", "</think>"));
        assert!(is_once(&may, r#"<think> <tool_call>{"a": 1, "a""#));
        assert!(!is_once(&may, r#"<think>{</think>{"a": 1, "a""#));
        let marked = Keys::new(Start::Marked, Thought::Over);
        assert!(is_once(&marked, r#"{"a": 1, "a""#));
        assert!(!is_once(&marked, r#"{"a <tool_call>{"a": 1, "a""#));
        let in_a_row = Keys::new(Start::InARow, Thought::Over);
        assert!(!is_once(&in_a_row, r#"{"a": 1}; {"a": 1, "a""#));
    }
}
