//! The load: prompts of mixed lengths whose answers do not end by themselves.

/// Tokens of every answer.
pub(crate) const MAX_TOKENS: u32 = 128;

/// Bytes of the system message, in turn; the model has a token per byte.
const SYSTEM_BYTES: [usize; 4] = [0, 64, 192, 448];

/// The messages of the request with this number, as JSON. No two begin alike, so that no answer
/// profits from the prompt of another.
pub(crate) fn messages(number: usize) -> String {
    let padding = "all work and no play makes a dull model "
        .chars()
        .cycle()
        .take(SYSTEM_BYTES[number % SYSTEM_BYTES.len()])
        .collect::<String>();
    format!(
        r#"[{{"role":"system","content":"{number} {padding}"}},{{"role":"user","content":"Repeat: echo"}}]"#
    )
}
