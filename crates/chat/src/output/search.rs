//! A search for some texts in a stream, which holds back only what may still become one of them.

use std::borrow::Cow;

/// Texts to find in a stream. Each byte is looked at once for each text (Knuth, Morris, Pratt).
pub(super) struct Search {
    needles: Vec<Needle>,
}

/// What one more part of the stream has shown.
pub(super) struct Scanned<'t> {
    /// What is certainly not part of a text that is looked for; held back parts included.
    pub(super) clear: Cow<'t, str>,
    /// A text was found: what follows it. The search begins anew there.
    pub(super) rest: Option<&'t str>,
}

struct Needle {
    text: Box<str>,
    // How much of the text still matches where one byte more did not.
    fallback: Box<[usize]>,
    matched: usize,
}

// === impl Search ===

impl Search {
    /// Empty texts are not looked for.
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        Self {
            needles: texts.map(Needle::new).collect(),
        }
    }

    /// Goes on with the next part of the stream.
    pub(super) fn push<'t>(&mut self, text: &'t str) -> Scanned<'t> {
        let held = self.longest();
        // The text that is complete first, and of those that end together the longest.
        let mut found: Option<(usize, usize)> = None;
        for needle in &mut self.needles {
            let until = found.map_or(text.len(), |(end, _)| end);
            if let Some(end) = needle.find(&text.as_bytes()[..until]) {
                let length = needle.text.len();
                if found.is_none_or(|best| (best.0, length) > (end, best.1)) {
                    found = Some((end, length));
                }
            }
        }
        let held = held.map_or("", |(needle, matched)| {
            &self.needles[needle].text[..matched]
        });
        if let Some((end, length)) = found {
            let clear = join(held, text, held.len() + end - length).into_owned();
            for needle in &mut self.needles {
                needle.matched = 0;
            }
            return Scanned {
                clear: Cow::Owned(clear),
                rest: Some(&text[end..]),
            };
        }
        let unsure = self.longest().map_or(0, |(_, matched)| matched);
        Scanned {
            clear: join(held, text, held.len() + text.len() - unsure),
            rest: None,
        }
    }

    /// The end of the stream: what was held back.
    pub(super) fn finish(&mut self) -> String {
        let held = self.longest();
        let held = held.map_or("", |(needle, matched)| {
            &self.needles[needle].text[..matched]
        });
        let held = held.to_owned();
        for needle in &mut self.needles {
            needle.matched = 0;
        }
        held
    }

    // What is held back is the beginning of the text that matched the most.
    fn longest(&self) -> Option<(usize, usize)> {
        let matched = self.needles.iter().map(|needle| needle.matched).enumerate();
        matched
            .filter(|(_, matched)| *matched > 0)
            .max_by_key(|(_, matched)| *matched)
    }
}

/// The first `length` bytes of both together.
fn join<'t>(first: &str, second: &'t str, length: usize) -> Cow<'t, str> {
    match length.checked_sub(first.len()) {
        Some(of_second) if first.is_empty() => Cow::Borrowed(&second[..of_second]),
        Some(of_second) => Cow::Owned([first, &second[..of_second]].concat()),
        None => Cow::Owned(first[..length].to_owned()),
    }
}

// === impl Needle ===

impl Needle {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut fallback = vec![0; bytes.len()];
        let mut matched = 0;
        for at in 1..bytes.len() {
            while matched > 0 && bytes[at] != bytes[matched] {
                matched = fallback[matched - 1];
            }
            if bytes[at] == bytes[matched] {
                matched += 1;
            }
            fallback[at] = matched;
        }
        Self {
            text: text.into(),
            fallback: fallback.into(),
            matched: 0,
        }
    }

    /// Where the first match ends; the needle stays there.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let text = self.text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if self.matched == 0 {
                at += memchr::memchr(text[0], &bytes[at..])?;
            }
            while self.matched > 0 && bytes[at] != text[self.matched] {
                self.matched = self.fallback[self.matched - 1];
            }
            if bytes[at] == text[self.matched] {
                self.matched += 1;
            }
            at += 1;
            if self.matched == text.len() {
                self.matched = 0;
                return Some(at);
            }
        }
        None
    }
}
