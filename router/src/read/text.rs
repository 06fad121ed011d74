//! Texts of a client: decoded, and as an answer repeats them.

/// A value of text that the walk has passed over.
pub(super) fn decoded(text: &[u8]) -> String {
    serde_json::from_slice(text).expect("should be a string: the walk has seen it")
}

/// A client's text as an answer repeats it.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
