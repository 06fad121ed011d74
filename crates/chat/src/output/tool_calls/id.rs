//! Ids of tool calls.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `call_` and 24 alphanumeric characters (more than 140 random bits).
#[must_use]
pub fn random() -> String {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).expect("the operating system should have random numbers");
    let mut id = String::from("call_");
    // Eight letters come a little more often than the others: ids must differ, not be uniform.
    id.extend(bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])));
    id
}
