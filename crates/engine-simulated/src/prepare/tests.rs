//! How long prompts and answers are, and what is refused.

use std::num::NonZeroUsize;

use inferyard_engine::event::FailureKind;
use inferyard_engine::request::ResponseFormat;

use super::*;

const LIMITS: Limits = Limits {
    max_running: 4,
    context_length: 1_000,
    answer_tokens: 64,
};

fn text(prompt: &str) -> Request {
    of(TextSource::Text(prompt.to_owned()))
}

fn of(source: TextSource) -> Request {
    Request::new(Prompt::Text { source, echo: true })
}

fn chat(messages: usize, tools: usize, tool_choice: ToolChoice) -> Request {
    let prompt = Prompt::Chat(Chat {
        messages_json: vec![b' '; messages].into(),
        tools_json: vec![b' '; tools].into(),
        tool_choice,
        parallel_tool_calls: true,
        template_kwargs_json: bytes::Bytes::new(),
    });
    Request {
        prompt,
        ..text("x")
    }
}

fn refused(request: Request) -> (FailureKind, Option<String>) {
    let failure = LIMITS.prepare(request).err().unwrap();
    (failure.kind, failure.param.map(String::from))
}

#[test]
fn four_bytes_are_a_token() {
    let tokens = |request| LIMITS.prepare(request).unwrap().job.prompt_tokens;
    assert_eq!(tokens(text("abcdefgh")), 2);
    assert_eq!(tokens(text("a")), 1);
    assert_eq!(
        tokens(chat(1_000, 1_000, ToolChoice::Auto(Vec::new()))),
        500
    );
    assert_eq!(tokens(of(TextSource::Tokens(vec![7; 9]))), 9);
}

#[test]
fn an_answer_is_as_long_as_asked_and_as_fits() {
    let check = |max_tokens, prompt: usize, expect| {
        let prepared = LIMITS.prepare(Request {
            max_tokens,
            ..text(&"x".repeat(prompt))
        });
        let prepared = prepared.unwrap();
        assert_eq!((prepared.job.answer_tokens, prepared.reason), expect);
    };
    check(None, 40, (64, FinishReason::Stop));
    check(Some(64), 40, (64, FinishReason::Length));
    check(Some(0), 40, (0, FinishReason::Length));
    check(Some(usize::MAX), 40, (990, FinishReason::Length));
    check(None, 3_960, (10, FinishReason::Length));
}

#[test]
fn what_it_cannot_do_is_refused() {
    let invalid = FailureKind::InvalidRequest;
    let empty = of(TextSource::Tokens(Vec::new()));
    assert_eq!(refused(empty), (invalid, Some("prompt".into())));
    let required = chat(8, 8, ToolChoice::Required(Vec::new()));
    assert_eq!(refused(required), (invalid, Some("tool_choice".into())));
    let json = Request {
        format: Some(ResponseFormat::JsonObject),
        ..text("x")
    };
    assert_eq!(refused(json), (invalid, Some("response_format".into())));
    let many = Request {
        choices: NonZeroUsize::new(5).unwrap(),
        ..text("x")
    };
    assert_eq!(refused(many), (invalid, Some("n".into())));
    let exceeded = FailureKind::ContextLengthExceeded;
    assert_eq!(
        refused(text(&"x".repeat(4_000))),
        (exceeded, Some("prompt".into()))
    );
    let long = chat(4_000, 0, ToolChoice::None);
    assert_eq!(refused(long), (exceeded, Some("messages".into())));
}

#[test]
fn an_empty_text_begins_a_document() {
    assert_eq!(LIMITS.prepare(text("")).unwrap().job.prompt_tokens, 1);
}

#[test]
fn prefix_blocks_have_256_tokens() {
    let request = Request {
        prefix_blocks: vec![5, 6],
        ..text(&"x".repeat(2_100))
    };
    let job = LIMITS.prepare(request).unwrap().job;
    let blocks: Vec<_> = job.blocks.iter().map(|b| (b.hash, b.tokens)).collect();
    assert_eq!((blocks, job.prompt_tokens), (vec![(5, 256), (6, 256)], 525));
}
