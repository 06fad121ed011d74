//! The bytes of an event stream.

use inferyard_engine::event::Usage;

use super::*;

fn frames(endpoint: Endpoint, include_usage: bool) -> Frames {
    let head = Head {
        id: "1".to_owned(),
        created: 7,
        model: "m\"".to_owned(),
    };
    let shape = Shape {
        endpoint,
        streamed: true,
        include_usage,
        choices: 1,
    };
    Frames::new(&head, shape)
}

fn write(mut frames: Frames, events: &[Event]) -> String {
    let mut out = String::new();
    for event in events {
        frames.push(event, &mut out);
    }
    assert!(frames.ended);
    out
}

fn said(content: &str) -> Event {
    Event::Delta(Delta {
        content: content.to_owned(),
        ..Delta::default()
    })
}

fn end(reason: FinishReason) -> [Event; 2] {
    let usage = Usage {
        prompt_tokens: 5,
        cached_tokens: 4,
        completion_tokens: 1,
        reasoning_tokens: 0,
    };
    let finished = Event::ChoiceFinished { choice: 0, reason };
    [finished, Event::Finished(usage)]
}

#[test]
fn a_chat_in_chunks() {
    let [finished, usage] = end(FinishReason::Length);
    let out = write(
        frames(Endpoint::Chat, true),
        &[said("a \"b\""), finished, usage],
    );
    let start = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m\"","#,
        r#""service_tier":"default","system_fingerprint":null,"choices":["#
    );
    let chunks = [
        r#"{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
        r#"{"index":0,"delta":{"content":"a \"b\""},"finish_reason":null}],"usage":null}"#,
        r#"{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}"#,
        r#"],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":4}}}"#,
    ];
    let chunks = chunks.map(|chunk| format!("{start}{chunk}\n\n"));
    assert_eq!(out, chunks.concat() + "data: [DONE]\n\n");
}

#[test]
fn a_text_in_chunks() {
    let [finished, usage] = end(FinishReason::Stop);
    let out = write(
        frames(Endpoint::Completions, false),
        &[said("x"), finished, usage],
    );
    let start =
        r#"data: {"id":"cmpl-1","object":"text_completion","created":7,"model":"m\"","choices":["#;
    let chunks = [
        r#"{"index":0,"text":"x","logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}"#,
    ];
    let chunks = chunks.map(|chunk| format!("{start}{chunk}\n\n"));
    assert_eq!(out, chunks.concat() + "data: [DONE]\n\n");
}

#[test]
fn a_failure_is_told_before_the_end() {
    let failure = Failure::new(FailureKind::Draining, "this worker is shutting down");
    let out = write(frames(Endpoint::Chat, false), &[Event::Failed(failure)]);
    assert!(
        out.starts_with(r#"data: {"error":{"message":"this worker"#),
        "{out}"
    );
    assert!(out.ends_with("}}\n\ndata: [DONE]\n\n"), "{out}");
}
