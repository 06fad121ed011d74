//! Converts a request of a trace into text: equal blocks become equal text after equal prefixes.

use inferyard_placement::BLOCK_BYTES;

use crate::peers::client;
use crate::peers::engines::MODEL;
use crate::traces::trace::{BLOCK_TOKENS, Request};

/// The parts of `messages` before and after the text; workers measure and hash all of it.
const BEFORE: &str = r#"[{"role":"user","content":""#;
const AFTER: &str = r#""}]"#;
/// Letters, and spaces at a natural rate; JSON escapes none of them.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz      ";

/// The bytes of the request with this number.
pub(super) fn post(request: &Request, number: usize, host: &str, key: &str) -> Vec<u8> {
    let (messages, most) = (messages(request, number as u64), request.answer_tokens);
    let body = format!(
        r#"{{"model":"{MODEL}","max_tokens":{most},"stream":true,"stream_options":{{"include_usage":true}},"messages":{messages}}}"#
    );
    client::post(host, key, &body)
}

/// Messages with as many bytes as the prompt's tokens have, and each block at its position in the trace.
fn messages(request: &Request, number: u64) -> String {
    let block = usize::try_from(BLOCK_BYTES).expect("a block should be small");
    let token = block / BLOCK_TOKENS as usize;
    let bytes = request.prompt_tokens as usize * token;
    let mut text = String::with_capacity(bytes + block);
    for seed in &request.blocks {
        say(*seed, block, &mut text);
    }
    // The rest is not a whole block, so no other request shares it.
    say(!number, bytes.saturating_sub(text.len()), &mut text);
    text.truncate(bytes.saturating_sub(AFTER.len()).max(BEFORE.len()));
    let shown = text.len().min(BEFORE.len());
    text.replace_range(..shown, BEFORE);
    text + AFTER
}

/// Appends this number of bytes, always the same for one seed.
fn say(seed: u64, bytes: usize, text: &mut String) {
    let end = text.len() + bytes;
    let mut state = seed;
    while text.len() < end {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = mixed(state);
        for _ in 0..12.min(end - text.len()) {
            text.push(char::from(ALPHABET[(bits & 31) as usize]));
            bits >>= 5;
        }
    }
}

/// The step of `SplitMix64`.
fn mixed(state: u64) -> u64 {
    let one = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let two = (one ^ (one >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    two ^ (two >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn request(prompt_tokens: u32, blocks: &[u64]) -> Request {
        Request {
            at: Duration::ZERO,
            prompt_tokens,
            answer_tokens: 5,
            blocks: blocks.to_vec(),
        }
    }

    #[test]
    fn equal_blocks_are_equal_text_and_the_rest_is_not() {
        let one = messages(&request(600, &[7, 8]), 1);
        let other = messages(&request(700, &[7, 8]), 2);
        assert_eq!((one.len(), other.len()), (2400, 2800));
        assert_eq!(one[..2048], other[..2048]);
        assert_ne!(one[2048..2300], other[2048..2300]);
        let third = messages(&request(600, &[7, 9]), 1);
        assert_eq!(one[..1024], third[..1024]);
        assert_ne!(one[1024..2048], third[1024..2048]);
    }

    #[test]
    fn bodies_are_json_however_short_the_prompt() {
        for tokens in [1, 7, 8, 9, 256, 1000] {
            let wire = post(&request(tokens, &[]), 3, "h", "k");
            let wire = String::from_utf8(wire).unwrap();
            let (_, body) = wire.split_once("\r\n\r\n").unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["max_tokens"], 5);
            assert!(body["messages"][0]["content"].is_string());
        }
    }
}
