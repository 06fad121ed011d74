//! What the simulated engine says: always the same words, and first of all what it is.

/// The first token of every answer.
const FIRST: &str = "simulated";
/// The tokens after it, over and over. Plain letters: in JSON they stand as they are.
const WORDS: [&str; 32] = [
    " tokens",
    " in",
    " the",
    " order",
    " in",
    " which",
    " a",
    " model",
    " would",
    " send",
    " them",
    " but",
    " without",
    " any",
    " model",
    " behind",
    " them",
    " so",
    " that",
    " nothing",
    " is",
    " measured",
    " here",
    " but",
    " the",
    " way",
    " which",
    " they",
    " take",
    " to",
    " a",
    " reader",
];

/// A token of an answer, by its place in it: its text and its id.
pub(crate) fn token(at: u32) -> (&'static str, u32) {
    match at.checked_sub(1) {
        None => (FIRST, 0),
        Some(after) => {
            let word = after as usize % WORDS.len();
            (WORDS[word], after % 32 + 1)
        }
    }
}

/// The text of a prompt that came as tokens.
pub(crate) fn text(ids: &[u32]) -> String {
    ids.iter().map(|id| token(id % 33).0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_first_what_it_is_and_then_repeats_itself() {
        let said: Vec<&str> = (0..4).map(|at| token(at).0).collect();
        assert_eq!(said, ["simulated", " tokens", " in", " the"]);
        assert_eq!(token(1), token(33));
        assert_eq!(token(32), (" reader", 32));
        assert_eq!(text(&[0, 1, 33]), "simulated tokenssimulated");
    }

    #[test]
    fn no_word_needs_an_escape() {
        for at in 0..33 {
            let (word, _) = token(at);
            let plain = |c: char| c == ' ' || c.is_ascii_lowercase();
            assert!(word.chars().all(plain), "{word}");
        }
    }
}
