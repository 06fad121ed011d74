//! Texts from a client: decoded, or shortened for an error.

/// Decodes a JSON string that the walk has checked.
pub(super) fn decoded(text: &[u8]) -> String {
    serde_json::from_slice(text).expect("should be a string: the walk has seen it")
}

/// Shortens a client's text for an error message.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
