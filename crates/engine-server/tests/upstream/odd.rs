//! Engines whose streams are not quite what the API says: what the model said is told all the same.

use inferyard_proto::worker::v1 as wire;
use wire::FinishReason;
use wire::failed::Kind;
use wire::generate_request::Prompt;
use wire::tool_choice::Mode;

use crate::harness::{Answer, Fixture, chat, vllm};
use crate::server::{Cut, Play, Server};

const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

fn stream(events: &[&str]) -> Play {
    let lines = events.iter().map(|event| format!("data: {event}\n\n"));
    Play::stream(lines.collect::<String>().as_bytes())
}

fn said(text: &str, reason: &str) -> String {
    format!(
        r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{reason}}}]}}"#
    )
}

async fn answer(server: &Server, fixture: &Fixture, events: &[&str]) -> Answer {
    server.play(stream(events).cut(Cut::Bytes));
    fixture.ask(chat("hi")).await
}

#[tokio::test]
async fn only_a_known_reason_ends_an_answer() {
    let (server, fixture) = vllm().await;
    let none = [
        "null",
        r#""""#,
        r#""null""#,
        r#""None""#,
        r#"" ""#,
        "false",
        "0",
        "[]",
        "{}",
        "1.5",
    ];
    for reason in none {
        let chunks = [
            said("a", reason),
            said("b", reason),
            said("c", r#""length""#),
        ];
        let events: Vec<_> = chunks.iter().map(String::as_str).collect();
        let answer = answer(
            &server,
            &fixture,
            &[&events[..], &[USAGE, "[DONE]"]].concat(),
        )
        .await;
        assert_eq!(answer.usage.unwrap().completion_tokens, 3, "{reason}");
        let choice = answer.only();
        assert_eq!(choice.content, "abc", "{reason}");
        assert_eq!(choice.reason, Some(FinishReason::Length), "{reason}");
    }
    for (reason, means) in [
        ("stop", FinishReason::Stop),
        (" Stop ", FinishReason::Stop),
        ("end_turn", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("content_filter", FinishReason::ContentFilter),
        ("a_word_that_nobody_knows", FinishReason::Stop),
    ] {
        let only = said("a", &format!("{reason:?}"));
        let answer = answer(&server, &fixture, &[&only, "[DONE]"]).await;
        assert_eq!(answer.only().reason, Some(means), "{reason}");
    }
}

#[tokio::test]
async fn text_after_the_end_of_a_choice_is_told() {
    let (server, fixture) = vllm().await;
    let events = [&said("a", r#""stop""#), &said("b", "null"), USAGE, "[DONE]"];
    assert_eq!(
        answer(&server, &fixture, &events).await.only().content,
        "ab"
    );
    server.play(stream(&[
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"length"}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"b"}}]}"#,
        "[DONE]",
    ]));
    let request = wire::GenerateRequest {
        choices: 2,
        ..chat("hi")
    };
    let answer = fixture.ask(request).await;
    let told: Vec<_> = answer.choices.values().collect();
    assert_eq!(
        (told[0].content.as_str(), told[0].reason),
        ("ab", Some(FinishReason::Stop))
    );
    assert_eq!(
        (told[1].content.as_str(), told[1].reason),
        ("x", Some(FinishReason::Length))
    );
}

#[tokio::test]
async fn usage_that_is_none_is_counted_here() {
    let (server, fixture) = vllm().await;
    for count in [
        "7.0",
        "-1",
        "1.5",
        r#""10""#,
        "null",
        "[]",
        "1e3",
        "99999999999",
    ] {
        let usage = [
            format!(r#"{{"prompt_tokens":9,"completion_tokens":{count}}}"#),
            format!(r#"{{"prompt_tokens":{count},"completion_tokens":2}}"#),
            format!(
                r#"{{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{{"cached_tokens":{count}}}}}"#
            ),
            count.to_owned(),
        ];
        for usage in usage {
            let last = format!(r#"{{"choices":[],"usage":{usage}}}"#);
            let chunks = [
                said("a", "null"),
                said("b", r#""stop""#),
                last,
                "[DONE]".to_owned(),
            ];
            let events: Vec<_> = chunks.iter().map(String::as_str).collect();
            let answer = answer(&server, &fixture, &events).await;
            assert_eq!(answer.usage.unwrap().completion_tokens, 2, "{usage}");
            assert!(answer.usage.unwrap().prompt_tokens > 0, "{usage}");
            assert_eq!(answer.only().content, "ab", "{usage}");
        }
    }
}

#[tokio::test]
async fn no_more_of_a_prompt_was_cached_than_it_has() {
    let (server, fixture) = vllm().await;
    let usage = r#"{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":500}}"#;
    let last = format!(r#"{{"choices":[],"usage":{usage}}}"#);
    let answer = answer(
        &server,
        &fixture,
        &[&said("a", r#""stop""#), &last, "[DONE]"],
    )
    .await;
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (9, 9));
}

#[tokio::test]
async fn what_is_said_about_an_answer_does_not_cost_the_answer() {
    let (server, fixture) = vllm().await;
    for (field, value) in [
        ("logprobs", "5"),
        ("logprobs", r#"{"content":[{"token":7}]}"#),
        (
            "logprobs",
            r#"{"content":[{"token":"\ud83d","logprob":-0.5,"top_logprobs":null}]}"#,
        ),
    ] {
        let chunk = format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},"{field}":{value},"finish_reason":"stop"}}],"timings":"none"}}"#
        );
        let answer = answer(&server, &fixture, &[&chunk, "[DONE]"]).await;
        assert_eq!(answer.only().content, "a", "{field} {value}");
    }
}

#[tokio::test]
async fn what_comes_after_the_last_line_is_nothing() {
    let (server, fixture) = vllm().await;
    for after in [
        "{broken",
        r#"{"error":{"message":"late"}}"#,
        r#"{"choices":5}"#,
    ] {
        let events = [&said("a", r#""stop""#), USAGE, "[DONE]", after];
        server.play(stream(&events));
        let answer = fixture.ask(chat("hi")).await;
        assert_eq!(answer.failed, None, "{after}");
        assert_eq!(answer.only().content, "a", "{after}");
    }
}

#[tokio::test]
async fn a_character_cut_in_half_is_whole_again() {
    let (server, fixture) = vllm().await;
    let events = [
        &said(r"a\ud83d", "null"),
        &said(r"\ude00b\ude00", "null"),
        &said(r"\ud83d", r#""stop""#),
        "[DONE]",
    ];
    assert_eq!(
        answer(&server, &fixture, &events).await.only().content,
        "a😀b\u{fffd}\u{fffd}"
    );
    let events = [
        r#"{"choices":[{"delta":{"reasoning":"\ud83d"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning":"\ude00"}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"x\":\"\ud83d"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\ude00\"}"}}]},"finish_reason":"tool_calls"}]}"#,
        "[DONE]",
    ];
    let choice = answer(&server, &fixture, &events).await.only();
    assert_eq!(
        (choice.reasoning.as_str(), choice.calls[0].2.as_str()),
        ("😀", r#"{"x":"😀"}"#)
    );
}

#[tokio::test]
async fn no_answer_is_an_error_that_another_worker_may_mend() {
    let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
    for events in [
        &["[DONE]"][..],
        &[USAGE, "[DONE]"],
        &[role, "[DONE]"],
        &[role, USAGE, "[DONE]"],
    ] {
        let (server, fixture) = vllm().await;
        let answer = answer(&server, &fixture, events).await;
        assert_eq!(answer.failed.unwrap().kind(), Kind::Internal, "{events:?}");
    }
    let (server, fixture) = vllm().await;
    // The model had nothing to say.
    let events = [role, &said("", r#""stop""#), "[DONE]"];
    assert_eq!(
        answer(&server, &fixture, &events).await.only().reason,
        Some(FinishReason::Stop)
    );
}

#[tokio::test]
async fn a_call_that_the_request_does_not_allow_is_no_empty_answer() {
    let (server, fixture) = vllm().await;
    let call = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}"#;
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#;
    let tools = r#"[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]"#;
    let only_f = vec!["f".to_owned()];
    for (mode, names) in [
        (Mode::Required, only_f.clone()),
        (Mode::Auto, only_f),
        (Mode::None, Vec::new()),
    ] {
        let ask = async |events: &[&str]| {
            server.play(stream(events));
            let mut request = chat("hi");
            let Some(Prompt::Chat(chat)) = &mut request.prompt else {
                unreachable!("it is a chat");
            };
            chat.tools_json = tools.into();
            chat.tool_choice = Some(wire::ToolChoice {
                mode: mode.into(),
                names: names.clone(),
            });
            fixture.ask(request).await
        };
        let alone = ask(&[call, end, USAGE, "[DONE]"]).await;
        assert_eq!(alone.failed.unwrap().kind(), Kind::Internal, "{mode:?}");
        // Where it said something as well, that is the answer.
        let text = said("a", "null");
        let answer = ask(&[&text, call, end, USAGE, "[DONE]"]).await;
        let choice = answer.only();
        assert_eq!((choice.content.as_str(), choice.calls.len()), ("a", 0));
        assert_eq!(choice.reason, Some(FinishReason::Stop), "{mode:?}");
    }
}
