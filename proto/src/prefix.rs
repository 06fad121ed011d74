//! The chain of prefix blocks: what a worker is asked whether it holds.

use crate::worker::v1::generate_request::Prompt;
use crate::worker::v1::{GenerateRequest, text_prompt};
use twox_hash::XxHash3_64;

/// Bytes of a block.
pub const BLOCK: usize = 1_024;
/// 2^64 divided by the golden ratio, made odd: every bit of a hash reaches the high bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of every whole block of the prompt, each continuing the one before it.
///
/// All routers must compute the same values, since a worker tells all of them which it holds.
pub fn chain(request: &GenerateRequest) -> Vec<u64> {
    let (tools, prompt): (&[u8], &[u8]) = match &request.prompt {
        Some(Prompt::Chat(chat)) => (&chat.tools_json, &chat.messages_json),
        Some(Prompt::Text(text)) => match &text.content {
            Some(text_prompt::Content::Text(text)) => (&[], text.as_bytes()),
            // Ids have no bytes of their own.
            Some(text_prompt::Content::Tokens(_)) | None => return Vec::new(),
        },
        None => return Vec::new(),
    };
    // No adapters yet: their name is empty.
    let start = [request.model.as_str(), "", request.cache_salt.as_str()]
        .iter()
        .fold(0, |hash, part| mixed(hash, part.as_bytes()));
    let mut hash = start;
    let mut blocks = Vec::with_capacity((tools.len() + prompt.len()) / BLOCK);
    let mut add = |block: &[u8]| {
        hash = mixed(hash, block);
        blocks.push(hash);
    };
    let (whole, rest) = tools.as_chunks::<BLOCK>();
    for block in whole {
        add(block);
    }
    let mut after = prompt;
    if !rest.is_empty() {
        // The one block that lies in both.
        let missing = BLOCK - rest.len();
        let Some((head, tail)) = prompt.split_at_checked(missing) else {
            return blocks;
        };
        let mut seam = [0; BLOCK];
        seam[..rest.len()].copy_from_slice(rest);
        seam[rest.len()..].copy_from_slice(head);
        add(&seam);
        after = tail;
    }
    for block in after.as_chunks::<BLOCK>().0 {
        add(block);
    }
    blocks
}

fn mixed(hash: u64, bytes: &[u8]) -> u64 {
    (hash.rotate_left(23) ^ XxHash3_64::oneshot(bytes)).wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::v1::{ChatPrompt, TextPrompt};

    fn chat(tools: &[u8], messages: &[u8], salt: &str) -> Vec<u64> {
        chain(&GenerateRequest {
            model: "demo".to_owned(),
            cache_salt: salt.to_owned(),
            prompt: Some(Prompt::Chat(ChatPrompt {
                messages_json: messages.to_vec().into(),
                tools_json: tools.to_vec().into(),
                ..ChatPrompt::default()
            })),
            ..GenerateRequest::default()
        })
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    #[test]
    fn a_fixed_prompt_has_fixed_hashes() {
        // Another value here means that routers of two versions no longer agree.
        assert_eq!(
            chat(b"", &bytes(2_100), "account"),
            [6_944_047_937_494_991_293, 16_882_297_985_644_259_836]
        );
    }

    #[test]
    fn only_whole_blocks_count() {
        assert_eq!(chat(b"", &bytes(1_023), "").len(), 0);
        assert_eq!(chat(b"", &bytes(1_024), "").len(), 1);
        assert_eq!(chat(b"", &bytes(2_047), "").len(), 1);
        assert_eq!(chat(&bytes(1_000), &bytes(23), "").len(), 0);
        assert_eq!(chat(&bytes(1_000), &bytes(24), "").len(), 1);
    }

    #[test]
    fn the_border_of_tools_and_messages_does_not_show() {
        let all = bytes(5_000);
        let expected = chat(b"", &all, "salt");
        for border in [1, 500, 1_023, 1_024, 1_025, 2_048, 4_999, 5_000] {
            let (tools, messages) = all.split_at(border);
            assert_eq!(chat(tools, messages, "salt"), expected, "{border}");
        }
    }

    #[test]
    fn a_longer_prompt_continues_the_chain_and_a_salt_makes_another() {
        let long = chat(b"", &bytes(4_096), "one");
        assert_eq!(chat(b"", &bytes(3_072), "one"), long[..3]);
        let other = chat(b"", &bytes(4_096), "two");
        assert!(long.iter().all(|hash| !other.contains(hash)));
        let mut changed = bytes(4_096);
        changed[2_000] ^= 1;
        let changed = chat(b"", &changed, "one");
        assert_eq!(changed[0], long[0]);
        assert!(changed[1..].iter().all(|hash| !long.contains(hash)));
    }

    #[test]
    fn text_has_a_chain_and_ids_have_none() {
        let mut request = GenerateRequest {
            prompt: Some(Prompt::Text(TextPrompt {
                content: Some(text_prompt::Content::Text("x".repeat(1_024))),
                echo: false,
            })),
            ..GenerateRequest::default()
        };
        assert_eq!(chain(&request).len(), 1);
        request.prompt = None;
        assert!(chain(&request).is_empty());
    }
}
