//! Control tokens that a client's texts spell are found, so that they are tokenized as text.
//!
//! A rendered prompt does not say who wrote what, and templates join the client's texts with their own. So
//! where one of the client's texts has the beginning of a control token, the conversation is rendered a second
//! time, with a mark behind the first character of each such beginning. The mark is a character that neither
//! the client nor the template uses. A control token of the prompt with a mark inside is the client's, even
//! where several texts spell it together; one without is the template's.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};

use aho_corasick::{AhoCorasick, Match, PatternID};
use minijinja::{Value, value::ValueKind};

/// Ideographs that hardly any text has. They have no case and are no white space, and nothing that writes JSON
/// or prints a list escapes them, as it would noncharacters.
const MARKS: RangeInclusive<char> = '\u{20000}'..='\u{2a6d6}';

/// The control tokens of a model.
pub(super) struct Controls {
    // None: there are none, or none that a text could spell.
    finders: Option<Finders>,
    // Characters of the template that could be marks.
    taken: HashSet<char>,
}

struct Finders {
    tokens: AhoCorasick,
    // The first two characters of each token.
    beginnings: AhoCorasick,
    firsts: HashSet<char>,
}

/// A prompt that was rendered with marks.
pub(super) struct Marked {
    /// The prompt without them.
    pub(super) text: String,
    // Where they were in it.
    marks: Vec<usize>,
}

// === impl Controls ===

impl Controls {
    /// The control tokens of a model whose template is `source`.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = &'a str>, source: &str) -> Self {
        // Nothing fits into a single character: such a token cannot be told from the character.
        let tokens: Vec<&str> = tokens.filter(|token| token.chars().count() > 1).collect();
        Self {
            finders: Finders::new(&tokens),
            taken: source.chars().filter(|it| MARKS.contains(it)).collect(),
        }
    }

    /// A mark for these values; none: their texts have no beginning of a control token.
    ///
    /// # Errors
    ///
    /// They use every character that could be the mark.
    pub(super) fn mark_for(&self, values: &[&Value]) -> Result<Option<char>, ()> {
        let Some(finders) = &self.finders else {
            return Ok(None);
        };
        let mut is_spelled = false;
        for value in values {
            each_text(value, &mut |text| is_spelled |= finders.begins_in(text));
        }
        if !is_spelled {
            return Ok(None);
        }
        let mut taken = self.taken.clone();
        for value in values {
            each_text(value, &mut |text| {
                taken.extend(text.chars().filter(|it| MARKS.contains(it)));
            });
        }
        let mut free = MARKS.filter(|it| !taken.contains(it));
        free.next().map_or(Err(()), |it| Ok(Some(it)))
    }

    /// The value with a mark in each beginning of a control token, but for the tokens in `kept`.
    pub(super) fn marked(&self, value: &Value, mark: char, kept: &[&str]) -> Value {
        match (&self.finders, value.kind()) {
            (Some(finders), ValueKind::String) => value
                .as_str()
                .and_then(|text| finders.marked(text, mark, kept))
                .map_or_else(|| value.clone(), Value::from),
            (Some(_), ValueKind::Seq) => items(value)
                .map(|item| self.marked(&item, mark, kept))
                .collect(),
            (Some(_), ValueKind::Map) => items(value)
                .map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    (
                        self.marked(&key, mark, kept),
                        self.marked(&item, mark, kept),
                    )
                })
                .collect(),
            _ => value.clone(),
        }
    }

    /// The parts of a prompt in which no text is a control token: from one control token of the template to
    /// the next, where the client spells one between them.
    pub(super) fn plain_parts(&self, prompt: &Marked) -> Vec<Range<usize>> {
        let mut own: Vec<Range<usize>> = Vec::new();
        let mut spelled = Vec::new();
        for found in self.find(&prompt.text) {
            let mut range = found.range();
            if prompt.is_marked(&range) {
                spelled.push(range);
                continue;
            }
            while let Some(last) = own.pop_if(|last| last.end > range.start) {
                range.start = range.start.min(last.start);
            }
            own.push(range);
        }
        let mut parts: Vec<Range<usize>> = spelled
            .into_iter()
            .filter_map(|spelled| {
                let before = own.partition_point(|token| token.start <= spelled.start);
                let start = before.checked_sub(1).map_or(0, |before| own[before].end);
                let end = own.get(before).map_or(prompt.text.len(), |next| next.start);
                (start < end).then_some(start..end)
            })
            .collect();
        parts.sort_unstable_by_key(|part| part.start);
        parts.dedup();
        parts
    }

    /// All control tokens of a text are the template's: it has those of the marked prompt that have no mark.
    pub(super) fn are_own(&self, text: &str, prompt: &Marked) -> bool {
        let own = self
            .find(&prompt.text)
            .filter(|found| !prompt.is_marked(&found.range()));
        self.find(text).map(id).eq(own.map(id))
    }

    fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Match> + 't {
        let finders = self.finders.iter();
        finders.flat_map(move |finders| finders.tokens.find_overlapping_iter(text))
    }
}

// === impl Finders ===

impl Finders {
    fn new(tokens: &[&str]) -> Option<Self> {
        let beginnings: HashSet<&str> = tokens
            .iter()
            .map(|token| {
                token
                    .char_indices()
                    .nth(2)
                    .map_or(*token, |(end, _)| &token[..end])
            })
            .collect();
        if beginnings.is_empty() {
            return None;
        }
        Some(Self {
            // They fail only where there are more tokens than a vocabulary has.
            tokens: AhoCorasick::new(tokens).ok()?,
            firsts: beginnings
                .iter()
                .filter_map(|token| token.chars().next())
                .collect(),
            beginnings: AhoCorasick::new(beginnings).ok()?,
        })
    }

    /// A text has the beginning of a control token, or ends with the first character of one, which the next
    /// text may go on with.
    fn begins_in(&self, text: &str) -> bool {
        self.beginnings.is_match(text)
            || text
                .chars()
                .next_back()
                .is_some_and(|it| self.firsts.contains(&it))
    }

    /// None: the text has no beginning of a control token.
    fn marked(&self, text: &str, mark: char, kept: &[&str]) -> Option<String> {
        if !self.begins_in(text) {
            return None;
        }
        let mut marked = String::with_capacity(text.len() + 64);
        let mut done = 0;
        for found in self.beginnings.find_overlapping_iter(text) {
            let token = &text[found.start()..];
            if kept.iter().any(|kept| token.starts_with(kept)) {
                continue;
            }
            let first = token.chars().next().map_or(0, char::len_utf8);
            marked.push_str(&text[done..found.start() + first]);
            marked.push(mark);
            done = found.start() + first;
        }
        marked.push_str(&text[done..]);
        if text
            .chars()
            .next_back()
            .is_some_and(|it| self.firsts.contains(&it))
        {
            marked.push(mark);
        }
        Some(marked)
    }
}

// === impl Marked ===

impl Marked {
    /// Takes the marks out of a prompt.
    pub(super) fn new(rendered: &str, mark: char) -> Self {
        let mut text = String::with_capacity(rendered.len());
        let mut marks = Vec::new();
        let mut parts = rendered.split(mark);
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            marks.push(text.len());
            text.push_str(part);
        }
        Self { text, marks }
    }

    /// A mark is inside a token, not at its edges.
    fn is_marked(&self, token: &Range<usize>) -> bool {
        let next = self.marks.partition_point(|mark| *mark <= token.start);
        self.marks.get(next).is_some_and(|mark| *mark < token.end)
    }
}

fn id(found: Match) -> PatternID {
    found.pattern()
}

fn items(of: &Value) -> impl Iterator<Item = Value> {
    of.try_iter().into_iter().flatten()
}

/// Calls `tell` with every text in a value, names of fields included.
fn each_text(value: &Value, tell: &mut dyn FnMut(&str)) {
    match value.kind() {
        ValueKind::String => value.as_str().into_iter().for_each(tell),
        ValueKind::Seq => items(value).for_each(|item| each_text(&item, tell)),
        ValueKind::Map => {
            for key in items(value) {
                each_text(&key, tell);
                each_text(&value.get_item(&key).unwrap_or_default(), tell);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
