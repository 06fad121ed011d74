//! What is sent, to which kind of server.

use std::num::NonZeroUsize;

use inferyard_engine::event::FailureKind;
use inferyard_engine::request::{ResponseFormat, Sampling};
use serde_json::{Value, json};

use super::*;

fn chat(tools: &str, tool_choice: ToolChoice) -> Chat {
    Chat {
        messages_json: br#"[ {"role":"user", "content":"hi"} ]"#.as_slice().into(),
        tools_json: tools.to_owned().into(),
        tool_choice,
        parallel_tool_calls: true,
        template_kwargs_json: Bytes::new(),
    }
}

fn request(prompt: Prompt) -> Request {
    Request {
        cache_salt: "account".to_owned(),
        ..Request::new(prompt)
    }
}

fn plain_chat() -> Request {
    request(Prompt::Chat(chat("", ToolChoice::Auto(Vec::new()))))
}

fn sent(request: Request, dialect: Dialect) -> Value {
    let request = UpstreamRequest::new(request, "tiny", dialect, true)
        .ok()
        .unwrap();
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn the_least_that_each_server_gets() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    assert_eq!(
        sent(plain_chat(), Dialect::Plain),
        json!({"model": "tiny", "messages": messages, "stream": true,
            "stream_options": {"include_usage": true}, "temperature": 1, "top_p": 1})
    );
    assert_eq!(
        sent(plain_chat(), Dialect::Vllm),
        json!({"model": "tiny", "messages": messages, "stream": true,
            "stream_options": {"include_usage": true, "continuous_usage_stats": true},
            "temperature": 1, "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1,
            "cache_salt": "account"})
    );
    assert_eq!(
        sent(plain_chat(), Dialect::LlamaCpp),
        json!({"model": "tiny", "messages": messages, "stream": true,
            "stream_options": {"include_usage": true}, "timings_per_token": true,
            "temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0, "repeat_penalty": 1})
    );
}

#[test]
fn everything_that_can_be_asked() {
    let mut all = plain_chat();
    all.choices = NonZeroUsize::new(2).unwrap();
    all.max_tokens = Some(7);
    all.stop = vec!["\"\n".to_owned(), "b".to_owned()];
    all.top_logprobs = Some(3);
    all.format = Some(ResponseFormat::JsonSchema {
        schema: br#"{"type":"object"}"#.as_slice().into(),
        strict: false,
    });
    all.priority = -2;
    all.extra_json = br#"{"min_tokens":1,"unknown":2}"#.as_slice().into();
    all.sampling = Sampling {
        temperature: 0.7,
        top_p: 0.25,
        top_k: NonZeroUsize::new(5),
        min_p: 0.5,
        frequency_penalty: -0.5,
        presence_penalty: 1.5,
        repetition_penalty: 1.25,
        seed: Some(-9),
        logit_bias: vec![(5, -100.0), (6, 1.5)],
    };
    if let Prompt::Chat(chat) = &mut all.prompt {
        let kwargs = br#"{"enable_thinking":false,"reasoning_effort":"low"}"#;
        chat.template_kwargs_json = kwargs.as_slice().into();
    }
    let body = sent(all, Dialect::SgLang);
    // Numbers are written as briefly as they can be read back.
    assert_eq!(body["temperature"], json!(0.7));
    assert_eq!(body["logit_bias"], json!({"5": -100, "6": 1.5}));
    assert_eq!(body["stop"], json!(["\"\n", "b"]));
    assert_eq!(
        (&body["logprobs"], &body["top_logprobs"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(
        body["chat_template_kwargs"],
        json!({"enable_thinking": false, "reasoning_effort": "low"})
    );
    assert_eq!(body["reasoning_effort"], "low");
    let schema = &body["response_format"]["json_schema"];
    assert_eq!(
        schema,
        &json!({"name": "answer", "strict": true, "schema": {"type": "object"}})
    );
    for (field, value) in [
        ("n", json!(2)),
        ("max_tokens", json!(7)),
        ("top_p", json!(0.25)),
        ("top_k", json!(5)),
        ("min_p", json!(0.5)),
        ("frequency_penalty", json!(-0.5)),
        ("presence_penalty", json!(1.5)),
        ("repetition_penalty", json!(1.25)),
        ("seed", json!(-9)),
        ("min_tokens", json!(1)),
        ("priority", json!(-2)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    assert!(body.get("unknown").is_none());
}

#[test]
fn priorities_are_the_other_way_round_in_vllm_and_can_be_taken_out() {
    let mut request = plain_chat();
    request.priority = 3;
    let mut upstream = UpstreamRequest::new(request, "tiny", Dialect::Vllm, true)
        .ok()
        .unwrap();
    let body: Value = serde_json::from_slice(&upstream.body).unwrap();
    assert_eq!(body["priority"], json!(-3));
    assert!(upstream.forget_priority());
    let body: Value = serde_json::from_slice(&upstream.body).unwrap();
    assert!(body.get("priority").is_none() && body["cache_salt"] == "account");
    assert!(!upstream.forget_priority());
}

#[test]
fn tool_choices() {
    let tool = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
    let tools = format!("[{},{},{}]", tool("f"), tool("g"), tool("h"));
    let asked = |choice| sent(request(Prompt::Chat(chat(&tools, choice))), Dialect::Plain);
    let required =
        |names: &[&str]| ToolChoice::Required(names.iter().map(|&name| name.to_owned()).collect());
    let none = asked(ToolChoice::None);
    assert!(none.get("tools").is_none() && none.get("tool_choice").is_none());
    assert_eq!(asked(ToolChoice::Auto(Vec::new()))["tool_choice"], "auto");
    assert_eq!(asked(required(&[]))["tool_choice"], "required");
    let named = asked(required(&["g"]));
    assert_eq!(
        named["tool_choice"],
        json!({"type": "function", "function": {"name": "g"}})
    );
    assert_eq!(named["tools"].as_array().unwrap().len(), 3);
    let some = asked(required(&["h", "f"]));
    assert_eq!(some["tool_choice"], "required");
    let shown = some["tools"].as_array().unwrap().iter();
    let shown: Vec<_> = shown.map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(shown, ["f", "h"]);
    let allowed = asked(ToolChoice::Auto(vec!["g".to_owned()]));
    assert_eq!(allowed["tool_choice"], "auto");
    assert_eq!(allowed["tools"].as_array().unwrap().len(), 1);
    assert_eq!(allowed["tools"][0]["function"]["name"], "g");
    let mut one = chat(&tools, ToolChoice::Auto(Vec::new()));
    one.parallel_tool_calls = false;
    let one = sent(request(Prompt::Chat(one)), Dialect::Plain);
    assert_eq!(one["parallel_tool_calls"], false);
}

#[test]
fn prompts_of_the_legacy_endpoint() {
    let text = |source, echo| request(Prompt::Text { source, echo });
    let words = || TextSource::Text("a\"b".to_owned());
    let request = UpstreamRequest::new(text(words(), true), "tiny", Dialect::Vllm, true)
        .ok()
        .unwrap();
    assert_eq!(request.endpoint, "/v1/completions");
    assert_eq!(request.options.echo.as_deref(), Some("a\"b"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["prompt"], "a\"b");
    assert!(body.get("echo").is_none());
    let ids = || TextSource::Tokens(vec![1, 20]);
    let body = sent(text(ids(), true), Dialect::SgLang);
    assert_eq!(
        (&body["prompt"], &body["echo"]),
        (&json!([1, 20]), &json!(true))
    );
    let refused = UpstreamRequest::new(text(ids(), true), "tiny", Dialect::Plain, true)
        .err()
        .unwrap();
    assert_eq!(
        (refused.kind, refused.param.as_deref()),
        (FailureKind::InvalidRequest, Some("echo"))
    );
}
