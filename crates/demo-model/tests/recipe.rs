//! The shipped file and its recipe agree: the chat template and the vocabulary are the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The bytes after the metadata entry `key`, from its value type on.
fn entry(key: &str) -> &'static [u8] {
    let gguf = inferyard_demo_model::GGUF;
    let mut encoded = (key.len() as u64).to_le_bytes().to_vec();
    encoded.extend(key.as_bytes());
    let start = gguf
        .windows(encoded.len())
        .position(|window| window == encoded)
        .expect("the metadata should have the key");
    &gguf[start + encoded.len()..]
}

fn take_u32(bytes: &mut &[u8]) -> u32 {
    let (value, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    u32::from_le_bytes(*value)
}

fn take_u64(bytes: &mut &[u8]) -> u64 {
    let (value, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    u64::from_le_bytes(*value)
}

fn take_string(bytes: &mut &'static [u8]) -> &'static str {
    let length = usize::try_from(take_u64(bytes)).unwrap();
    let (value, rest) = bytes.split_at(length);
    *bytes = rest;
    std::str::from_utf8(value).unwrap()
}

/// GGUF's number for the type of a value.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

#[test]
fn chat_template_is_the_recipes() {
    let mut bytes = entry("tokenizer.chat_template");
    assert_eq!(take_u32(&mut bytes), STRING);
    let recipe = include_str!("../recipe/chat_template.jinja");
    assert_eq!(take_string(&mut bytes), recipe.trim_end_matches('\n'));
}

#[test]
fn vocabulary_is_a_token_for_each_byte_and_the_recipes_special_tokens() {
    let mut bytes = entry("tokenizer.ggml.tokens");
    assert_eq!(take_u32(&mut bytes), ARRAY);
    assert_eq!(take_u32(&mut bytes), STRING);
    let count = take_u64(&mut bytes);
    let tokens: Vec<&str> = (0..count).map(|_| take_string(&mut bytes)).collect();

    let (of_bytes, special) = tokens.split_at(256);
    for (byte, token) in (0..=255_u8).zip(of_bytes) {
        // Byte-level tokenizers write what prints as itself, and the rest from U+0100 on.
        let itself = matches!(byte, 33..=126 | 161..=172 | 174..);
        let written = token.chars().next().unwrap();
        assert_eq!(token.chars().count(), 1);
        assert_eq!(itself, written == char::from(byte), "byte {byte}");
        assert_eq!(itself, u32::from(written) < 256, "byte {byte}");
    }
    let recipe: Vec<&str> = include_str!("../recipe/special_tokens.txt")
        .lines()
        .collect();
    assert_eq!(special, recipe);
}

#[test]
fn name_is_that_of_the_metadata() {
    let mut bytes = entry("general.name");
    assert_eq!(take_u32(&mut bytes), STRING);
    assert_eq!(take_string(&mut bytes), inferyard_demo_model::NAME);
}
