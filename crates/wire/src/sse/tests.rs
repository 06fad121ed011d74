//! Tests of frames, byte by byte, against recordings of OpenAI's API and snapshots.

use inferyard_proto::worker::v1::{FinishReason, TokenProbability};
use serde_json::Value;

use super::*;

const CHAT: Shape = Shape {
    api: Api::Chat,
    choices: 1,
    logprobs: None,
};

const TEXT: Shape = Shape {
    api: Api::Completions,
    ..CHAT
};

fn head(api: Api) -> Head {
    Head {
        request_id: "req_0123456789abcdef0123456789abcdef".into(),
        api,
        created: 1_755_137_933,
        model: "demo".into(),
    }
}

fn text(choice: u32, content: &str) -> Event {
    Event::Delta(Delta {
        choice,
        content: content.to_owned(),
        ..Delta::default()
    })
}

fn call(index: u32, id: &str, name: &str, arguments: &str) -> Event {
    Event::Delta(Delta {
        tool_calls: vec![ToolCallDelta {
            index,
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        }],
        ..Delta::default()
    })
}

fn end(choice: u32, reason: FinishReason) -> Event {
    Event::ChoiceFinished(ChoiceFinished {
        choice,
        reason: reason.into(),
    })
}

fn finished(prompt_tokens: u32, completion_tokens: u32) -> Event {
    Event::Finished(Finished {
        usage: Some(Usage {
            prompt_tokens,
            completion_tokens,
            ..Usage::default()
        }),
    })
}

fn logprob(text: &str, logprob: f32) -> TokenProbability {
    TokenProbability {
        text: text.to_owned(),
        bytes: text.as_bytes().to_vec().into(),
        logprob,
    }
}

fn encode_with(head: &Head, shape: Shape, include_usage: bool, events: &[Event]) -> String {
    let mut frames = Frames::new(head, shape, StreamOptions { include_usage });
    let mut out = BytesMut::new();
    for event in events {
        frames.push(event, &mut out).unwrap();
    }
    String::from_utf8(out.to_vec()).unwrap()
}

fn encode(shape: Shape, include_usage: bool, events: &[Event]) -> String {
    encode_with(&head(shape.api), shape, include_usage, events)
}

/// The frames without their shared head.
fn short(frames: &str) -> String {
    let start = "\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
                 \"object\":\"chat.completion.chunk\",\"created\":1755137933,\"model\":\"demo\",\
                 \"service_tier\":\"default\",\"system_fingerprint\":null,";
    frames.replace(start, "…").replace("\n\n", "\n")
}

// ---- Recordings: encoding their content must give their bytes. ----

/// The objects of a recorded stream.
fn recorded(stream: &str) -> Vec<Value> {
    let lines = stream.split("\n\n").filter(|line| !line.is_empty());
    lines
        .map(|line| line.strip_prefix("data: ").unwrap())
        .filter(|line| *line != "[DONE]")
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn head_of(chunk: &Value, api: Api) -> Head {
    let digits = chunk["id"].as_str().unwrap().split_once('-').unwrap().1;
    Head {
        request_id: format!("req_{digits}").into(),
        api,
        created: chunk["created"].as_u64().unwrap(),
        model: chunk["model"].as_str().unwrap().into(),
    }
}

fn reason_of(word: &str) -> FinishReason {
    match word {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" => FinishReason::ToolCalls,
        other => panic!("{other}"),
    }
}

/// The events of a worker that would produce a chunk.
fn events_of(chunk: &Value) -> Vec<Event> {
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut events = Vec::new();
    for choice in chunk["choices"].as_array().unwrap() {
        let index = number(&choice["index"]);
        let delta = &choice["delta"];
        let calls = delta["tool_calls"].as_array().into_iter().flatten();
        let logprobs = choice["logprobs"]["content"]
            .as_array()
            .into_iter()
            .flatten();
        events.push(Event::Delta(Delta {
            choice: index,
            content: string(&delta["content"]) + &string(&choice["text"]),
            tool_calls: calls
                .map(|call| ToolCallDelta {
                    index: number(&call["index"]),
                    id: string(&call["id"]),
                    name: string(&call["function"]["name"]),
                    arguments: string(&call["function"]["arguments"]),
                })
                .collect(),
            logprobs: logprobs
                .map(|token| TokenLogprob {
                    token: Some(logprob(
                        token["token"].as_str().unwrap(),
                        token["logprob"].to_string().parse().unwrap(),
                    )),
                    top: Vec::new(),
                })
                .collect(),
            ..Delta::default()
        }));
        if let Some(word) = choice["finish_reason"].as_str() {
            events.push(end(index, reason_of(word)));
        }
    }
    if let Some(usage) = chunk.get("usage").filter(|usage| !usage.is_null()) {
        let completion_tokens = number(&usage["completion_tokens"]);
        events.push(finished(number(&usage["prompt_tokens"]), completion_tokens));
    }
    events
}

fn replayed(recording: &str, shape: Shape) -> String {
    let chunks = recorded(recording);
    let events: Vec<_> = chunks.iter().flat_map(events_of).collect();
    encode_with(&head_of(&chunks[0], shape.api), shape, true, &events)
}

/// Replaces the text between every occurrence of `from` and the next `to`.
fn between(text: &str, from: &str, to: &str, with: &str) -> String {
    let mut parts = text.split(from);
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out += with;
        out += part.split_once(to).unwrap().1;
    }
    out
}

/// Converts a recording of 2024: adds the tier that OpenAI sends today, and removes the fingerprint, which we
/// do not send. Its usage has fewer details than today (`chat-usage.sse` has them) and is cut out.
fn of_2024(recording: &str) -> String {
    let tier = "\"service_tier\":\"default\",\"system_fingerprint\":null";
    let text = between(recording, "\"system_fingerprint\":\"", "\"", tier);
    between(&text, "\"usage\":{", "\n", "\"usage\":…\n")
}

/// Our answer, with the usage cut out like in [`of_2024`].
fn as_in_2024(ours: &str) -> String {
    let text = between(ours, "\"usage\":{", "\n", "\"usage\":…\n");
    text.replace(",\"usage\":null", "")
}

#[test]
fn plain_text_with_usage_is_as_recorded() {
    let recording = include_str!("../../tests/recordings/chat-usage.sse");
    let expected = between(recording, ",\"obfuscation\":\"", "\"", "")
        .replace("\"fp_de604bd877\"", "null")
        .replace("\"logprobs\":null,", "");
    assert_eq!(replayed(recording, CHAT), expected + "data: [DONE]\n\n");
}

#[test]
fn log_probabilities_are_as_recorded() {
    let recording = include_str!("../../tests/recordings/chat-logprobs.sse");
    let shape = Shape {
        logprobs: Some(0),
        ..CHAT
    };
    assert_eq!(as_in_2024(&replayed(recording, shape)), of_2024(recording));
}

#[test]
fn several_choices_are_as_recorded() {
    let recording = include_str!("../../tests/recordings/chat-choices.sse");
    let shape = Shape { choices: 3, ..CHAT };
    let expected = of_2024(recording).replace("\"logprobs\":null,", "");
    assert_eq!(as_in_2024(&replayed(recording, shape)), expected);
}

#[test]
fn a_tool_call_is_as_recorded() {
    let recording = include_str!("../../tests/recordings/chat-tool.sse");
    let expected = of_2024(recording).replace("\"logprobs\":null,", "");
    assert_eq!(as_in_2024(&replayed(recording, CHAT)), expected);
}

#[test]
fn parallel_tool_calls_are_as_recorded() {
    let recording = include_str!("../../tests/recordings/chat-tools.sse");
    let expected = of_2024(recording).replace("\"logprobs\":null,", "");
    // If several calls follow, OpenAI sends the role in a chunk of its own. A worker does not know what
    // follows, so our role always comes with the first call.
    let (role, rest) = expected.split_once("\n\n").unwrap();
    assert!(role.contains("\"delta\":{\"role\":\"assistant\",\"content\":null}"));
    let (first, rest) = rest.split_once("\n\n").unwrap();
    let ours = as_in_2024(&replayed(recording, CHAT));
    let (our_first, our_rest) = ours.split_once("\n\n").unwrap();
    assert_eq!(our_rest, rest);
    let first = first.replace(
        "\"delta\":{",
        "\"delta\":{\"role\":\"assistant\",\"content\":null,",
    );
    assert_eq!(our_first, first.replace("}}]}", "}}],\"refusal\":null}"));
}

#[test]
fn legacy_completions_are_as_recorded() {
    let recording = include_str!("../../tests/recordings/completions-usage.sse");
    let ours = replayed(recording, TEXT);
    // OpenAI finishes with the last token, we finish after it; and our usage has more details.
    let (start, usage) = recording.rsplit_once("data: {").unwrap();
    let last = start.trim_end().rsplit_once("\n\n").unwrap().1;
    let expected = start.replace("\"length\"", "null")
        + &last.replace("\" to\"", "\"\"")
        + "\n\ndata: {"
        + usage;
    let ours = between(&ours, ",\"prompt_tokens_details\":{", "}},", "},");
    assert_eq!(ours, expected + "data: [DONE]\n\n");
}

// ---- Snapshots of cases that no recording has. ----

#[test]
fn a_short_answer_is_these_bytes() {
    let events = [text(0, "Hi"), end(0, FinishReason::Stop), finished(3, 1)];
    assert_eq!(
        encode(CHAT, false, &events),
        "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
         \"object\":\"chat.completion.chunk\",\"created\":1755137933,\"model\":\"demo\",\
         \"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{\"index\":0,\
         \"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\
         \"finish_reason\":null}]}\n\n\
         data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
         \"object\":\"chat.completion.chunk\",\"created\":1755137933,\"model\":\"demo\",\
         \"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{\"index\":0,\
         \"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n\
         data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
         \"object\":\"chat.completion.chunk\",\"created\":1755137933,\"model\":\"demo\",\
         \"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{\"index\":0,\
         \"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
         data: [DONE]\n\n"
    );
}

#[test]
fn choices_interleave() {
    let events = [
        text(1, "b"),
        text(0, "a"),
        end(0, FinishReason::Length),
        text(1, "b"),
        end(1, FinishReason::Stop),
        finished(3, 3),
    ];
    let shape = Shape { choices: 2, ..CHAT };
    insta::assert_snapshot!(short(&encode(shape, true, &events)), @r#"
    data: {…"choices":[{"index":1,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}
    data: {…"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}],"usage":null}
    data: {…"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}
    data: {…"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"usage":null}
    data: {…"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}
    data: {…"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}],"usage":null}
    data: {…"choices":[{"index":1,"delta":{},"finish_reason":"stop"}],"usage":null}
    data: {…"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}
    data: [DONE]
    "#);
}

#[test]
fn reasoning_text_and_calls_of_one_delta_have_a_chunk_each() {
    let Event::Delta(calls) = call(0, "call_a", "f", "{}") else {
        unreachable!()
    };
    let events = [
        Event::Delta(Delta {
            reasoning: "So \"x\"".to_owned(),
            content: "é\n".to_owned(),
            ..calls
        }),
        call(1, "call_b", "g", ""),
        call(1, "", "", "{\"a\":1}"),
        end(0, FinishReason::ToolCalls),
        finished(1, 1),
    ];
    insta::assert_snapshot!(short(&encode(CHAT, false, &events)), @r#"
    data: {…"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{"reasoning_content":"So \"x\""},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{"content":"é\n"},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"g","arguments":""}}]},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"a\":1}"}}]},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}
    data: [DONE]
    "#);
}

#[test]
fn an_empty_answer_has_a_role() {
    let held_back = Event::Delta(Delta {
        token_count: 1,
        ..Delta::default()
    });
    let events = [held_back, end(0, FinishReason::Stop), finished(1, 1)];
    insta::assert_snapshot!(short(&encode(CHAT, false, &events)), @r#"
    data: {…"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}
    data: {…"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
    data: [DONE]
    "#);
}

#[test]
fn likely_tokens_come_with_their_bytes() {
    let half = TokenProbability {
        text: "\u{FFFD}".to_owned(),
        bytes: vec![0xC3].into(),
        logprob: f32::NEG_INFINITY,
    };
    let event = Event::Delta(Delta {
        logprobs: vec![TokenLogprob {
            token: Some(logprob("a", -0.5)),
            top: vec![logprob("a", -0.5), half],
        }],
        ..Delta::default()
    });
    let shape = Shape {
        logprobs: Some(2),
        ..CHAT
    };
    let frames = short(&encode(shape, false, &[event]));
    insta::assert_snapshot!(frames.lines().last().unwrap(), @r#"data: {…"choices":[{"index":0,"delta":{"content":""},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"�","logprob":-9999.0,"bytes":[195]}]}],"refusal":null},"finish_reason":null}]}"#);
}

#[test]
fn legacy_log_probabilities_count_characters() {
    let token = |text: &str| TokenLogprob {
        token: Some(logprob(text, -1.0)),
        top: vec![logprob(text, -1.0), logprob("x", -2.0), logprob("x", -3.0)],
    };
    let delta = |text: &str| {
        Event::Delta(Delta {
            content: text.to_owned(),
            logprobs: vec![token(text)],
            ..Delta::default()
        })
    };
    let shape = Shape {
        logprobs: Some(3),
        ..TEXT
    };
    let frames = encode(shape, false, &[delta("né"), delta("!")]);
    insta::assert_snapshot!(frames.replace("\n\n", "\n"), @r#"
    data: {"id":"cmpl-0123456789abcdef0123456789abcdef","object":"text_completion","created":1755137933,"choices":[{"text":"né","index":0,"logprobs":{"tokens":["né"],"token_logprobs":[-1.0],"top_logprobs":[{"né":-1.0,"x":-2.0}],"text_offset":[0]},"finish_reason":null}],"model":"demo"}
    data: {"id":"cmpl-0123456789abcdef0123456789abcdef","object":"text_completion","created":1755137933,"choices":[{"text":"!","index":0,"logprobs":{"tokens":["!"],"token_logprobs":[-1.0],"top_logprobs":[{"!":-1.0,"x":-2.0}],"text_offset":[2]},"finish_reason":null}],"model":"demo"}
    "#);
}

#[test]
fn a_failure_in_mid_stream_ends_with_an_error_and_done() {
    let mut frames = Frames::new(&head(Api::Chat), CHAT, StreamOptions::default());
    let mut out = BytesMut::new();
    frames.push(&text(0, "Hal"), &mut out).unwrap();
    out.clear();
    let error = ErrorObject {
        message: "The server had an error. You can retry your request.",
        names_request: true,
        kind: "server_error",
        param: None,
        code: None,
    };
    frames.fail(&error, &mut out);
    insta::assert_snapshot!(std::str::from_utf8(&out).unwrap(), @r#"
    data: {"error":{"message":"The server had an error. You can retry your request. (request id: req_0123456789abcdef0123456789abcdef)","type":"server_error","param":null,"code":null}}

    data: [DONE]
    "#);
    // Nothing is written after the end.
    out.clear();
    frames.push(&text(0, "lo"), &mut out).unwrap();
    frames.fail(&error, &mut out);
    assert!(out.is_empty());
}

#[test]
fn a_worker_that_breaks_the_contract_is_an_error() {
    let cases: [&[Event]; 5] = [
        &[text(1, "no such choice")],
        &[end(0, FinishReason::Stop), text(0, "after the end")],
        &[end(0, FinishReason::Unspecified)],
        &[finished(1, 1)],
        &[
            end(0, FinishReason::Stop),
            Event::Finished(Finished { usage: None }),
        ],
    ];
    for events in cases {
        let mut frames = Frames::new(&head(Api::Chat), CHAT, StreamOptions::default());
        let (last, first) = events.split_last().unwrap();
        for event in first {
            frames.push(event, &mut BytesMut::new()).unwrap();
        }
        let result = frames.push(last, &mut BytesMut::new());
        assert!(matches!(result, Err(ContractError(_))), "{events:?}");
    }
}
