//! Tests of bodies, byte by byte, against recordings of OpenAI's API and snapshots.

use inferyard_proto::worker::v1::{
    Admitted, ChoiceFinished, FinishReason, TokenLogprob, TokenProbability,
};
use serde_json::Value;

use super::*;

fn head(api: Api, digits: &str, created: u64, model: &str) -> Head {
    Head {
        request_id: format!("req_{digits}").into(),
        api,
        created,
        model: model.into(),
    }
}

fn shape(api: Api, choices: u32, logprobs: Option<u32>) -> Shape {
    Shape {
        api,
        choices,
        logprobs,
    }
}

fn text(choice: u32, content: &str) -> Event {
    Event::Delta(Delta {
        choice,
        content: content.to_owned(),
        ..Delta::default()
    })
}

fn call(choice: u32, index: u32, id: &str, name: &str, arguments: &str) -> Event {
    Event::Delta(Delta {
        choice,
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

fn finished(prompt_tokens: u32, cached_tokens: u32, completion_tokens: u32) -> Event {
    Event::Finished(Finished {
        usage: Some(Usage {
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            reasoning_tokens: 0,
        }),
    })
}

fn collect(head: Head, shape: Shape, events: Vec<Event>) -> Result<String, ContractError> {
    let mut answer = Answer::new(head, shape);
    let mut body = None;
    for event in events {
        assert!(body.is_none(), "the body should come with the last event");
        body = answer.push(event)?;
    }
    let body = body.expect("the last event should give the body");
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// The events of a worker that would produce a recorded body, a few characters each.
fn events_of(body: &Value) -> Vec<Event> {
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pieces = |text: &str| -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        characters
            .chunks(3)
            .map(|piece| piece.iter().collect())
            .collect()
    };
    let mut events = vec![Event::Admitted(Admitted::default())];
    for choice in body["choices"].as_array().unwrap() {
        let index = number(&choice["index"]);
        let message = &choice["message"];
        for piece in pieces(&(string(&message["content"]) + &string(&choice["text"]))) {
            events.push(text(index, &piece));
        }
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        for (call_index, recorded) in (0..).zip(calls) {
            let function = &recorded["function"];
            let (id, name) = (string(&recorded["id"]), string(&function["name"]));
            events.push(call(index, call_index, &id, &name, ""));
            for piece in pieces(function["arguments"].as_str().unwrap()) {
                events.push(call(index, call_index, "", "", &piece));
            }
        }
        events.push(end(
            index,
            match choice["finish_reason"].as_str().unwrap() {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                "tool_calls" => FinishReason::ToolCalls,
                other => panic!("{other}"),
            },
        ));
    }
    let usage = &body["usage"];
    let completion_tokens = number(&usage["completion_tokens"]);
    events.push(finished(
        number(&usage["prompt_tokens"]),
        0,
        completion_tokens,
    ));
    events
}

/// Checks that encoding the recording's content gives the recording's bytes, without white space. Fields that
/// OpenAI has added since are added to the recording first.
fn check(api: Api, recording: &str) {
    let mut recorded: Value = serde_json::from_str(recording).unwrap();
    let digits = recorded["id"].as_str().unwrap().split_once('-').unwrap().1;
    let created = recorded["created"].as_u64().unwrap();
    let head = head(api, digits, created, recorded["model"].as_str().unwrap());
    let choices = u32::try_from(recorded["choices"].as_array().unwrap().len()).unwrap();
    let ours = collect(head, shape(api, choices, None), events_of(&recorded)).unwrap();

    if api == Api::Chat {
        for choice in recorded["choices"].as_array_mut().unwrap() {
            choice["message"]["annotations"] = Value::Array(Vec::new());
        }
        let body = recorded.as_object_mut().unwrap();
        body.shift_remove("system_fingerprint");
        body.insert("service_tier".to_owned(), "default".into());
        body.insert("system_fingerprint".to_owned(), Value::Null);
    }
    let usage = recorded["usage"].as_object_mut().unwrap();
    usage.shift_remove("completion_tokens_details");
    usage.insert(
        "prompt_tokens_details".to_owned(),
        serde_json::json!({"cached_tokens": 0, "audio_tokens": 0}),
    );
    usage.insert(
        "completion_tokens_details".to_owned(),
        serde_json::json!({
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        }),
    );
    assert_eq!(ours, serde_json::to_string(&recorded).unwrap());
}

#[test]
fn a_plain_answer_is_as_recorded() {
    check(Api::Chat, include_str!("../../tests/recordings/chat.json"));
}

#[test]
fn several_choices_are_as_recorded() {
    check(
        Api::Chat,
        include_str!("../../tests/recordings/chat-choices.json"),
    );
}

#[test]
fn tool_calls_are_as_recorded() {
    check(
        Api::Chat,
        include_str!("../../tests/recordings/chat-tools.json"),
    );
}

#[test]
fn legacy_completions_are_as_recorded() {
    check(
        Api::Completions,
        include_str!("../../tests/recordings/completions.json"),
    );
}

#[test]
fn everything_at_once_is_these_bytes() {
    let token = |text: &str| TokenProbability {
        text: text.to_owned(),
        bytes: text.as_bytes().to_vec().into(),
        logprob: -0.25,
    };
    let spoken = |reasoning: &str, content: &str| {
        Event::Delta(Delta {
            content: content.to_owned(),
            reasoning: reasoning.to_owned(),
            logprobs: vec![TokenLogprob {
                token: Some(token(content)),
                top: vec![token(content)],
            }],
            ..Delta::default()
        })
    };
    let events = vec![
        spoken("Hm", ""),
        spoken("", "a\"b"),
        spoken("", "\u{1}"),
        call(0, 0, "call_1", "f", "{\"x\":1}"),
        end(0, FinishReason::ToolCalls),
        finished(9, 4, 5),
    ];
    let head = head(Api::Chat, "00", 7, "m");
    insta::assert_snapshot!(collect(head, shape(Api::Chat, 1, Some(1)), events).unwrap(), @r#"{"id":"chatcmpl-00","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"a\"b\u0001","reasoning_content":"Hm","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}],"refusal":null,"annotations":[]},"logprobs":{"content":[{"token":"","logprob":-0.25,"bytes":[],"top_logprobs":[{"token":"","logprob":-0.25,"bytes":[]}]},{"token":"a\"b","logprob":-0.25,"bytes":[97,34,98],"top_logprobs":[{"token":"a\"b","logprob":-0.25,"bytes":[97,34,98]}]},{"token":"\u0001","logprob":-0.25,"bytes":[1],"top_logprobs":[{"token":"\u0001","logprob":-0.25,"bytes":[1]}]}],"refusal":null},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":null}"#);
}

#[test]
fn legacy_log_probabilities_are_four_lists() {
    let delta = |text: &str| {
        Event::Delta(Delta {
            content: text.to_owned(),
            logprobs: vec![TokenLogprob {
                token: Some(TokenProbability {
                    text: text.to_owned(),
                    logprob: -1.5,
                    ..TokenProbability::default()
                }),
                top: Vec::new(),
            }],
            ..Delta::default()
        })
    };
    let events = vec![
        delta("né"),
        delta("!"),
        end(0, FinishReason::Length),
        finished(1, 0, 2),
    ];
    let head = head(Api::Completions, "00", 7, "m");
    let body = collect(head, shape(Api::Completions, 1, Some(0)), events).unwrap();
    let (choices, _) = body.split_once(",\"usage\"").unwrap();
    insta::assert_snapshot!(choices, @r#"{"id":"cmpl-00","object":"text_completion","created":7,"model":"m","choices":[{"text":"né!","index":0,"logprobs":{"tokens":["né","!"],"token_logprobs":[-1.5,-1.5],"top_logprobs":null,"text_offset":[0,2]},"finish_reason":"length"}]"#);
}

#[test]
fn a_worker_that_breaks_the_contract_is_an_error() {
    let cases = [
        vec![text(1, "no such choice")],
        vec![end(0, FinishReason::Stop), text(0, "after the end")],
        vec![end(0, FinishReason::Unspecified)],
        vec![call(0, 1, "call_1", "f", "")],
        vec![call(0, 0, "", "", "{}")],
        vec![finished(1, 0, 1)],
    ];
    for events in cases {
        let head = head(Api::Chat, "00", 7, "m");
        let result = collect(head, shape(Api::Chat, 1, None), events);
        assert!(matches!(result, Err(ContractError(_))));
    }
}
