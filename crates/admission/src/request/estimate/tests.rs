//! Tests of what estimates learn from counted prompts.

use bytes::Bytes;
use inferyard_proto::worker::v1::{ChatPrompt, TextPrompt, TokenIds};

use super::*;

fn chat(change: impl FnOnce(&mut ChatPrompt)) -> GenerateRequest {
    let mut chat = ChatPrompt::default();
    change(&mut chat);
    GenerateRequest {
        prompt: Some(Prompt::Chat(chat)),
        ..GenerateRequest::default()
    }
}

fn zeros(length: usize) -> Bytes {
    vec![b'0'; length].into()
}

/// A conversation of this many bytes.
fn of_bytes(length: usize) -> GenerateRequest {
    chat(|chat| chat.messages_json = zeros(length))
}

fn text(content: Content) -> GenerateRequest {
    let text = TextPrompt {
        content: Some(content),
        echo: false,
    };
    GenerateRequest {
        prompt: Some(Prompt::Text(text)),
        ..GenerateRequest::default()
    }
}

fn estimate(estimates: &Estimates, account: &str, request: &GenerateRequest) -> Estimate {
    estimates.of(request, &account.into(), &"m".into(), 30)
}

/// An estimate of the tokens of this many bytes, without the template.
fn tokens(estimates: &Estimates, account: &str, bytes: usize) -> u64 {
    estimate(estimates, account, &of_bytes(bytes)).tokens - 30
}

#[test]
fn it_begins_at_four_bytes_and_moves_to_what_is_counted() {
    let estimates = Estimates::default();
    assert_eq!(tokens(&estimates, "a", 4_000), 1_000);
    assert_eq!(tokens(&estimates, "a", 1), 1);
    for _ in 0..200 {
        estimate(&estimates, "a", &of_bytes(8_192)).counted(4_096 + 30);
    }
    assert!((1_990..=2_000).contains(&tokens(&estimates, "a", 4_000)));
}

#[test]
fn every_field_that_reaches_the_prompt_counts() {
    let estimates = Estimates::default();
    let all = chat(|chat| {
        chat.tools_json = zeros(1_000);
        chat.messages_json = zeros(2_000);
        chat.template_kwargs_json = zeros(4_000);
    });
    let all = estimate(&estimates, "a", &all);
    assert_eq!((all.bytes, all.tokens), (7_000, 1_750 + 30));
    assert_eq!(all.most(30), 7_030);
    // A text prompt is not rendered by a template.
    let plain = estimate(&estimates, "a", &text(Content::Text("x".repeat(400))));
    assert_eq!((plain.bytes, plain.tokens), (400, 100));
    let ids = TokenIds { ids: vec![7; 33] };
    let ids = estimate(&estimates, "a", &text(Content::Tokens(ids)));
    assert_eq!((ids.bytes, ids.tokens, ids.most(30)), (132, 33, 33));
}

#[test]
fn an_account_learns_nothing_from_another() {
    let estimates = Estimates::default();
    for _ in 0..10 {
        estimate(&estimates, "mallory", &of_bytes(400_000)).counted(800_000);
    }
    assert_eq!(tokens(&estimates, "victim", 60_000), 15_000);
    assert!(tokens(&estimates, "mallory", 60_000) > 119_000);
    let other_model = estimates.of(&of_bytes(60_000), &"mallory".into(), &"n".into(), 0);
    assert_eq!(other_model.tokens, 15_000);
}

#[test]
fn many_short_chats_say_little_of_a_long_one() {
    // A template that the worker reports exactly, does not report, and reports too large.
    for counted in [38, 38 + 30, 31] {
        let estimates = Estimates::default();
        for _ in 0..2_000 {
            estimate(&estimates, "a", &of_bytes(36)).counted(counted);
        }
        let long = tokens(&estimates, "a", 90_000);
        assert!((22_000..=23_500).contains(&long), "{long} after {counted}");
    }
}

#[test]
fn nonsense_does_not_spoil_it() {
    for (bytes, counted) in [
        (0, 5),
        (0, 0),
        (1 << 30, u64::MAX),
        (1 << 30, 0),
        (1 << 30, 1 << 20),
        (100, 100_000),
    ] {
        let ratio = Ratio::default();
        ratio.learn(bytes, counted);
        assert_eq!(ratio.tokens(4_000), 1_000, "{bytes} {counted}");
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let estimates = Estimates::default();
    let learn = |account: &str| estimate(&estimates, account, &of_bytes(1 << 20)).counted(1 << 20);
    learn("regular");
    for visitor in 0..MOST_RATIOS.get() * 2 {
        learn(&format!("visitor-{visitor}"));
        if visitor % 1_000 == 0 {
            assert!(tokens(&estimates, "regular", 1_000) > 990);
        }
    }
    assert_eq!(
        tokens(&estimates, "visitor-0", 1_000),
        250,
        "it begins anew"
    );
}
