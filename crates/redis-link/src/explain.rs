//! What an error of Redis asks its reader to do.

use redis::RedisError;

/// What an error says, and what to do about it where that is known.
#[must_use]
pub fn explain(error: &RedisError) -> String {
    match advice(error) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

fn advice(error: &RedisError) -> Option<&'static str> {
    let text = error.to_string();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["NOPERM", "no permissions"]) {
        Some(
            "its user lacks a permission: docs/limits.md has the line that makes one with all that are needed",
        )
    } else if has(&[
        "WRONGPASS",
        "NOAUTH",
        "Authentication",
        "authentication failed",
    ]) {
        Some("put the user and the password into the address: redis://USER:PASSWORD@HOST")
    } else if has(&[
        "UnknownIssuer",
        "self-signed",
        "SelfSigned",
        "invalid peer certificate",
    ]) {
        Some("if an authority of your own signs its certificate, name that with --redis-ca")
    } else {
        None
    }
}
