//! The load: prompts of mixed lengths, with answers that always have `MAX_TOKENS` tokens.

/// Tokens per answer.
pub(crate) const MAX_TOKENS: u32 = 128;

/// Bytes of the system message, in turn; the model has one token per byte.
const SYSTEM_BYTES: [usize; 4] = [0, 64, 192, 448];

/// The messages of the request with this number, as JSON. No two have a common prefix, so that no answer
/// profits from a cached prompt.
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
