//! Finds the numbers of a JSON text that a double cannot hold: a grammar's bounds are doubles.

use crate::decimal::Decimal;

/// Beyond it not every whole number is a double.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// The paths, from `root`, of the numbers that would be rounded. The text is valid JSON.
pub(super) fn inexact(text: &str, root: &str) -> Vec<String> {
    let mut scan = Scan {
        text,
        at: 0,
        path: root.to_owned(),
        found: Vec::new(),
    };
    // Most schemas have no number that is long enough.
    if has_long_number(text) {
        scan.value();
    }
    scan.found
}

/// Fifteen digits are always held.
fn has_long_number(text: &str) -> bool {
    let mut run = 0;
    text.bytes().any(|byte| {
        match byte {
            b'0'..=b'9' => run += 1,
            b'.' => {}
            // An exponent makes a number long without digits.
            b'e' | b'E' if run > 0 => return true,
            _ => run = 0,
        }
        run > 15
    })
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    path: String,
    found: Vec<String>,
}

// === impl Scan ===

impl Scan<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn white_space(&mut self) {
        while self.peek().is_ascii_whitespace() {
            self.at += 1;
        }
    }

    fn value(&mut self) {
        self.white_space();
        match self.peek() {
            b'{' => self.members(),
            b'[' => self.elements(),
            b'"' => {
                self.string();
            }
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                while self.peek().is_ascii_alphabetic() {
                    self.at += 1;
                }
            }
        }
        self.white_space();
    }

    fn members(&mut self) {
        self.at += 1;
        self.white_space();
        while self.peek() == b'"' {
            let end = self.path.len();
            let key = self.string();
            self.path.push('.');
            self.path.push_str(&key);
            self.white_space();
            // The colon.
            self.at += 1;
            self.value();
            self.path.truncate(end);
            if self.peek() == b',' {
                self.at += 1;
                self.white_space();
            }
        }
        self.at += 1;
    }

    fn elements(&mut self) {
        self.at += 1;
        self.white_space();
        let mut index = 0;
        while !matches!(self.peek(), b']' | 0) {
            let end = self.path.len();
            self.path.push('[');
            self.path.push_str(&index.to_string());
            self.path.push(']');
            self.value();
            self.path.truncate(end);
            index += 1;
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.at += 1;
        while !matches!(self.peek(), b'"' | 0) {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let text = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
    }

    fn number(&mut self) {
        let start = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if !is_exact(text) {
            self.found.push(self.path.clone());
        }
    }
}

/// Whether the number is still the same once it was a double, or the integer made of that.
fn is_exact(text: &str) -> bool {
    let Ok(double) = text.parse::<f64>() else {
        return false;
    };
    if !double.is_finite() {
        return false;
    }
    let wanted = Decimal::parse(text);
    if Decimal::parse(&double.to_string()) != wanted {
        return false;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is cut off is what is looked for"
    )]
    let whole = double as i64;
    double.abs() <= WHOLE || Decimal::parse(&whole.to_string()) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_kept() {
        for text in [
            "0",
            "-0.0",
            "0.1",
            "1e3",
            "1.50",
            "9007199254740992",
            "-9007199254740992",
            "1e-7",
            "123456789012345.5",
            "9007199254740994",
            "1000000000000000000",
        ] {
            assert_eq!(inexact(text, "a"), [""; 0], "{text}");
        }
    }

    #[test]
    fn numbers_that_would_be_rounded() {
        for text in [
            "9007199254740993",
            "1234567890123456789",
            "18446744073709551616",
            "18446744073709551615",
            "-9007199254740993",
            "0.12345678901234567890",
            "1e400",
            "1e30",
        ] {
            assert_eq!(inexact(text, "a"), ["a"], "{text}");
        }
    }

    #[test]
    fn they_are_found_by_path() {
        let text = r#"{"a\u0062": [1, {"x" : 9007199254740993 }, "9007199254740993"], "c":{"\"":-9007199254740993}, "d": 1.5e0}"#;
        assert_eq!(inexact(text, "r"), ["r.ab[1].x", "r.c.\""]);
    }
}
